// What the kernels need of CUDA, on the CPU; `block.h` runs them.
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
    unsigned x, y, z;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
extern Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {
float* shared_memory();
void barrier();
// The value of the lane whose number differs by the bits of `mask`; every lane of the warp must call it.
uint64_t exchange(uint64_t value, int mask);
} // namespace emulator

inline void __syncthreads() { emulator::barrier(); }
template <typename V> V __shfl_xor_sync(unsigned, V value, int mask, int = 32) {
    static_assert(sizeof(V) <= 8);
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    bits = emulator::exchange(bits, mask);
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// Numbers of 16 bits, rounded to the nearest, ties to even; arithmetic is that of `float`, rounded once.
struct __half {
    _Float16 value;
    __half() = default;
    __half(float v) : value(static_cast<_Float16>(v)) {}
    operator float() const { return static_cast<float>(value); }
};
struct __nv_bfloat16 {
    uint16_t bits;
    __nv_bfloat16() = default;
    __nv_bfloat16(float v) {
        uint32_t wide;
        std::memcpy(&wide, &v, sizeof wide);
        bits = v != v ? 0x7fff : static_cast<uint16_t>((wide + 0x7fff + (wide >> 16 & 1)) >> 16);
    }
    operator float() const {
        const uint32_t wide = static_cast<uint32_t>(bits) << 16;
        float v;
        std::memcpy(&v, &wide, sizeof v);
        return v;
    }
};
inline float __half2float(__half h) { return h; }
inline __half __float2half_rn(float v) { return v; }
inline float __bfloat162float(__nv_bfloat16 h) { return h; }
inline __nv_bfloat16 __float2bfloat16_rn(float v) { return v; }

inline float __expf(float x) { return expf(x); }
inline float __fdividef(float a, float b) { return a / b; }
// Each operation rounded by itself; the build forbids contraction.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
