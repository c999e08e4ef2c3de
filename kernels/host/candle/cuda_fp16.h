// What candle's kernels need of CUDA beside what ours do. Atomics are plain: one thread runs at a time.
#pragma once
#include "../emulator.h"
#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <limits>

#define __host__

using std::isnan;
using std::max;
using std::min;
using std::signbit;

struct float2 {
    float x, y;
};
struct float4 {
    float x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }

template <typename V, typename W> V atomicAdd(V* at, W value) {
    const V old = *at;
    *at = old + value;
    return old;
}
template <typename V, typename W> V atomicMax(V* at, W value) {
    const V old = *at;
    *at = std::max<V>(old, value);
    return old;
}
template <typename V, typename W> V atomicMin(V* at, W value) {
    const V old = *at;
    *at = std::min<V>(old, value);
    return old;
}
template <typename V> V atomicCAS(V* at, V assumed, V value) {
    const V old = *at;
    if (old == assumed) *at = value;
    return old;
}
template <typename To, typename From> To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
inline unsigned __float_as_uint(float v) { return same_bits<unsigned>(v); }
inline int __float_as_int(float v) { return same_bits<int>(v); }
inline float __uint_as_float(unsigned v) { return same_bits<float>(v); }
inline float __int_as_float(int v) { return same_bits<float>(v); }
inline long long __double_as_longlong(double v) { return same_bits<long long>(v); }
inline double __longlong_as_double(long long v) { return same_bits<double>(v); }
inline unsigned short __half_as_ushort(__half v) { return same_bits<unsigned short>(v.value); }
inline __half __ushort_as_half(unsigned short v) { return static_cast<float>(same_bits<_Float16>(v)); }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 v) { return v.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short v) {
    __nv_bfloat16 h;
    h.bits = v;
    return h;
}

inline float normcdff(float x) { return 0.5f * std::erfc(-x * 0.70710678f); }
inline double normcdf(double x) { return 0.5 * std::erfc(-x * 0.7071067811865476); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float sinpif(float x) { return std::sin(3.14159265f * x); }

inline __half __float2half(float v) { return v; }
inline __nv_bfloat16 __float2bfloat16(float v) { return v; }
#define OF_BOTH(macro) macro(__half) macro(__nv_bfloat16)
#define FUNCTIONS(T) \
    inline bool __hisnan(T v) { return std::isnan(static_cast<float>(v)); } \
    inline T __habs(T v) { return std::fabs(static_cast<float>(v)); } \
    inline T hsqrt(T v) { return std::sqrt(static_cast<float>(v)); } \
    inline T hcos(T v) { return std::cos(static_cast<float>(v)); } \
    inline T hsin(T v) { return std::sin(static_cast<float>(v)); } \
    inline T hlog(T v) { return std::log(static_cast<float>(v)); } \
    inline T hexp(T v) { return std::exp(static_cast<float>(v)); } \
    inline T __hmax_nan(T a, T b) { return __hisnan(a) || a > b ? a : b; } \
    inline T __hmin_nan(T a, T b) { return __hisnan(a) || a < b ? a : b; } \
    inline T& operator+=(T& a, float b) { return a = static_cast<float>(a) + b; } \
    inline T& operator*=(T& a, float b) { return a = static_cast<float>(a) * b; }
OF_BOTH(FUNCTIONS)
#undef OF_BOTH
#undef FUNCTIONS

// Pairs.
struct __nv_bfloat162 {
    __nv_bfloat16 x, y;
};
#define PAIRWISE(name, op) \
    inline __nv_bfloat162 name(__nv_bfloat162 a, __nv_bfloat162 b) { return {a.x op b.x, a.y op b.y}; }
PAIRWISE(__hadd2, +)
PAIRWISE(__hsub2, -)
PAIRWISE(__hmul2, *)
PAIRWISE(__h2div, /)
#undef PAIRWISE
