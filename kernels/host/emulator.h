// What the kernels need of CUDA, on the CPU: one block at a time, each of its threads a fiber that runs until it meets the
// others. So a barrier that is missing shows: threads run far ahead of one another, in either order.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __restrict__
#define dynamic_shared emulator::shared_memory()

struct Index {
    int x, y, z;
};
extern Index threadIdx, blockIdx, gridDim;

namespace emulator {
float* shared_memory();
void barrier();
// The value of the lane whose number differs by the bits of `mask`; every lane of the warp must call it.
float exchange(float value, int mask);
} // namespace emulator

inline void __syncthreads() { emulator::barrier(); }
inline float __shfl_xor_sync(unsigned, float value, int mask) { return emulator::exchange(value, mask); }

struct __half {
    _Float16 value;
};
inline float __half2float(__half h) { return static_cast<float>(h.value); }
inline __half __float2half_rn(float v) { return {static_cast<_Float16>(v)}; }

struct __nv_bfloat16 {
    uint16_t bits;
};
inline float __bfloat162float(__nv_bfloat16 h) {
    const uint32_t bits = static_cast<uint32_t>(h.bits) << 16;
    float v;
    std::memcpy(&v, &bits, sizeof v);
    return v;
}
// To the nearest, ties to even; NaN stays NaN.
inline __nv_bfloat16 __float2bfloat16_rn(float v) {
    uint32_t bits;
    std::memcpy(&bits, &v, sizeof bits);
    if (v != v) return {0x7fff};
    return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

inline float __expf(float x) { return expf(x); }
// Each operation rounded by itself; the build forbids contraction.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
