// What the kernels share: types, scalar functions, sums in a fixed order.
//
// Letters are those of src/ops/mod.rs: B images, L tokens, C or D channels, K directions, R rank. Activations are
// channels-last, so neighbouring lanes take neighbouring channels and every load or store of a warp is one run of memory.
// Values are of type T (float, __half, __nv_bfloat16) in device memory and float32 in registers. No kernel adds by atomics:
// each sum has one owner and one order, so equal inputs give equal bits.
#pragma once

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>
// The block's shared memory of the size that its launch asked for.
extern __shared__ float dynamic_shared[];
#else
#include "host/emulator.h"
#endif

// Threads of a warp, and the channels of one block wherever lanes are channels.
constexpr int LANES = 32;
// Warps of one block; src/ops/kernels/mod.rs launches as many.
constexpr int WARPS = 8;

#define DEVICE static __device__ __forceinline__
#define KERNEL extern "C" __global__ void __launch_bounds__(LANES* WARPS)

DEVICE float load(const float* p) { return *p; }
DEVICE float load(const __half* p) { return __half2float(*p); }
DEVICE float load(const __nv_bfloat16* p) { return __bfloat162float(*p); }
DEVICE void store(float* p, float v) { *p = v; }
DEVICE void store(__half* p, float v) { *p = __float2half_rn(v); }
DEVICE void store(__nv_bfloat16* p, float v) { *p = __float2bfloat16_rn(v); }

// PACK neighbouring values, which a thread reads and writes in accesses of 16 bytes where they are aligned to that: with two
// bytes a lane, too little would be under way to keep the memory busy.
constexpr int PACK = 8;
template <typename... P>
DEVICE bool aligned(P... pointers) {
    return (reinterpret_cast<uintptr_t>(pointers) | ...) % sizeof(uint4) == 0;
}
template <typename T>
DEVICE void load_pack(const T* p, float* v) {
    constexpr int WORDS = PACK * sizeof(T) / sizeof(uint4);
    uint4 words[WORDS];
    T values[PACK];
#pragma unroll
    for (int i = 0; i < WORDS; i++) words[i] = reinterpret_cast<const uint4*>(p)[i];
    memcpy(values, words, sizeof words);
#pragma unroll
    for (int i = 0; i < PACK; i++) v[i] = load(values + i);
}
template <typename T>
DEVICE void store_pack(T* p, const float* v) {
    constexpr int WORDS = PACK * sizeof(T) / sizeof(uint4);
    uint4 words[WORDS];
    T values[PACK];
#pragma unroll
    for (int i = 0; i < PACK; i++) store(values + i, v[i]);
    memcpy(words, values, sizeof words);
#pragma unroll
    for (int i = 0; i < WORDS; i++) reinterpret_cast<uint4*>(p)[i] = words[i];
}

// Instantiates KERNEL name_f32, name_f16 and name_bf16 by the macro `each(suffix, type)`.
#define FOR_EACH_TYPE(each) each(f32, float) each(f16, __half) each(bf16, __nv_bfloat16)

// The quick division, to 2 units in the last place; by a sum that is infinite it gives zero, as it should.
DEVICE float sigmoid(float x) { return __fdividef(1.0f, 1.0f + __expf(-x)); }

// ln(1 + exp(x)), as softplus in src/simd/mod.rs: one exponential, and a polynomial on the multiply-add units in place of
// a logarithm on the special function units, which are what the scan is short of.
DEVICE float softplus(float x) {
    const float z = __expf(-fabsf(x));
    float p = fmaf(z, 5.2326866e-3f, -2.9505208e-2f);
    p = fmaf(p, z, 7.82259e-2f);
    p = fmaf(p, z, -0.13663241f);
    p = fmaf(p, z, 0.19106005f);
    p = fmaf(p, z, -0.24842982f);
    p = fmaf(p, z, 0.33319098f);
    p = fmaf(p, z, -0.49999493f);
    p = fmaf(p, z, 0.99999994f);
    return fmaf(z, p, x < 0.0f ? 0.0f : x); // not fmaxf, which would drop a NaN
}

DEVICE float silu(float x) { return x * sigmoid(x); }
DEVICE float silu_slope(float x) {
    const float s = sigmoid(x);
    return fmaf(x * s, 1.0f - s, s);
}
DEVICE float gelu(float x) { return fmaf(0.5f * x, erff(x * 0.70710678f), 0.5f * x); }
DEVICE float gelu_slope(float x) {
    const float phi = fmaf(0.5f, erff(x * 0.70710678f), 0.5f);
    return fmaf(x * 0.3989423f, __expf(-0.5f * x * x), phi);
}

// The sum over a warp's lanes, in every lane.
DEVICE float warp_sum(float v) {
    for (int offset = LANES / 2; offset > 0; offset /= 2) v += __shfl_xor_sync(0xffffffffu, v, offset);
    return v;
}

// The sum over a block's warps, lane by lane, in the lanes of warp 0. `room` is WARPS * LANES floats of shared memory, free
// again for all once the next barrier has been passed.
DEVICE float sum_warps(float v, float* room) {
    room[threadIdx.y * LANES + threadIdx.x] = v;
    __syncthreads();
    float sum = 0.0f;
    if (threadIdx.y == 0)
        for (int w = 0; w < WARPS; w++) sum += room[w * LANES + threadIdx.x];
    return sum;
}
