// What is done element by element: GELU (exact, by erf) and SiLU with their gradients, what follows a product, modulation, patches
// of convolutions.
//
// Owns: one thread, one pack of the result at a time (one element where operands are not aligned, and at the end), a grid's
// width apart; for patches one warp, those of one pixel. Coalesced: neighbouring threads take neighbouring packs. float32: the
// value. Bytes: each operand once, the result once. src/ops/{activation,linear,modulate,im2col}.rs.
#include "common.cuh"

DEVICE long long thread_of_grid() { return ((long long)blockIdx.x * WARPS + threadIdx.y) * LANES + threadIdx.x; }
DEVICE long long threads_of_grid() { return (long long)gridDim.x * LANES * WARPS; }

// `pack(i)` for the first value of each pack where `packed`, `one(i)` for each value that is in none.
template <typename Packed, typename One>
DEVICE void each(long long count, bool packed, Packed pack, One one) {
    const long long packs = packed ? count / PACK : 0;
    for (long long i = thread_of_grid(); i < packs; i += threads_of_grid()) pack(i * PACK);
    for (long long i = packs * PACK + thread_of_grid(); i < count; i += threads_of_grid()) one(i);
}

// y = f(x)
template <typename T, typename F>
DEVICE void map(const T* x, T* y, long long count, F f) {
    const auto pack = [&](long long i) {
        float v[PACK];
        load_pack(x + i, v);
#pragma unroll
        for (int k = 0; k < PACK; k++) v[k] = f(v[k]);
        store_pack(y + i, v);
    };
    each(count, aligned(x, y), pack, [&](long long i) { store(y + i, f(load(x + i))); });
}

// y = f(a, b)
template <typename T, typename F>
DEVICE void map(const T* a, const T* b, T* y, long long count, F f) {
    const auto pack = [&](long long i) {
        float v[PACK], w[PACK];
        load_pack(a + i, v);
        load_pack(b + i, w);
#pragma unroll
        for (int k = 0; k < PACK; k++) v[k] = f(v[k], w[k]);
        store_pack(y + i, v);
    };
    each(count, aligned(a, b, y), pack, [&](long long i) { store(y + i, f(load(a + i), load(b + i))); });
}

#define ACTIVATION(name, T)                                                                                            \
    KERNEL gelu_##name(const T* x, T* y, long long count) {                                                            \
        map(x, y, count, [](float v) { return gelu(v); });                                                             \
    }                                                                                                                  \
    KERNEL silu_##name(const T* x, T* y, long long count) {                                                            \
        map(x, y, count, [](float v) { return silu(v); });                                                             \
    }                                                                                                                  \
    KERNEL gelu_backward_##name(const T* x, const T* g, T* gx, long long count) {                                      \
        map(x, g, gx, count, [](float v, float g) { return g * gelu_slope(v); });                                      \
    }                                                                                                                  \
    KERNEL silu_backward_##name(const T* x, const T* g, T* gx, long long count) {                                      \
        map(x, g, gx, count, [](float v, float g) { return g * silu_slope(v); });                                      \
    }
FOR_EACH_TYPE(ACTIVATION)

enum After { BIAS_ALONE, BIAS_GELU, BIAS_ADD };

// What follows a product x (rows, C): x + bias, then nothing, GELU, or + residual (rows, C). The sum with the bias is not
// rounded to T in between. Under 2^32 values, as of `modulate`: divisions of 64 bits are slow.
template <typename T>
DEVICE void finish_product(const T* x, const T* bias, const T* residual, T* y, long long count, unsigned channels, int after) {
    const auto finished = [&](float v, float b, float r) {
        return after == BIAS_GELU ? gelu(v + b) : after == BIAS_ADD ? r + (v + b) : v + b;
    };
    const auto pack = [&](long long i) {
        float v[PACK], b[PACK], r[PACK] = {};
        load_pack(x + i, v);
        load_pack(bias + (unsigned)i % channels, b);
        if (after == BIAS_ADD) load_pack(residual + i, r);
#pragma unroll
        for (int k = 0; k < PACK; k++) v[k] = finished(v[k], b[k], r[k]);
        store_pack(y + i, v);
    };
    const auto one = [&](long long i) {
        store(y + i, finished(load(x + i), load(bias + (unsigned)i % channels), after == BIAS_ADD ? load(residual + i) : 0.0f));
    };
    each(count, channels % PACK == 0 && aligned(x, bias, residual, y), pack, one);
}

#define FINISH_PRODUCT(name, T)                                                                                        \
    KERNEL finish_product_##name(const T* x, const T* bias, const T* residual, T* y, long long count, int channels,    \
                                 int after) {                                                                          \
        finish_product(x, bias, residual, y, count, channels, after);                                                  \
    }
FOR_EACH_TYPE(FINISH_PRODUCT)

// x (1 + gamma) + beta; x (B, L, C), gamma and beta (B, M, C) with M = 1 or L.
template <typename T>
DEVICE void modulate(const T* x, const T* gamma, const T* beta, T* y, long long count, unsigned tokens, unsigned places,
                     unsigned channels) {
    const auto place = [&](long long i) {
        const unsigned row = (unsigned)i / channels, image = row / tokens;
        return ((size_t)image * places + (places == 1 ? 0 : row % tokens)) * channels + (unsigned)i % channels;
    };
    const auto pack = [&](long long i) {
        float v[PACK], g[PACK], b[PACK];
        load_pack(x + i, v);
        load_pack(gamma + place(i), g);
        load_pack(beta + place(i), b);
#pragma unroll
        for (int k = 0; k < PACK; k++) v[k] = fmaf(v[k], 1.0f + g[k], b[k]);
        store_pack(y + i, v);
    };
    const auto one = [&](long long i) {
        store(y + i, fmaf(load(x + i), 1.0f + load(gamma + place(i)), load(beta + place(i))));
    };
    each(count, channels % PACK == 0 && aligned(x, gamma, beta, y), pack, one);
}

#define MODULATE(name, T)                                                                                              \
    KERNEL modulate_##name(const T* x, const T* gamma, const T* beta, T* y, long long count, int tokens, int places,   \
                           int channels) {                                                                             \
        modulate(x, gamma, beta, y, count, tokens, places, channels);                                                  \
    }
FOR_EACH_TYPE(MODULATE)

// (B, H, W, C) to (B, H', W', 9 C): 3x3 neighbourhoods of every stride-th pixel, zeros outside; `pixels` is B H' W'.
template <typename T>
DEVICE void im2col(const T* x, T* patches, int pixels, int height, int width, int channels, int stride) {
    const int pixel = blockIdx.x * WARPS + threadIdx.y;
    if (pixel >= pixels) return;
    const int out_height = (height - 1) / stride + 1, out_width = (width - 1) / stride + 1;
    const int left = pixel % out_width * stride - 1, top = pixel / out_width % out_height * stride - 1;
    x += (size_t)(pixel / out_width / out_height) * height * width * channels;
    patches += (size_t)pixel * 9 * channels;
    const bool packed = channels % PACK == 0 && aligned(x, patches);
    for (int i = threadIdx.x * (packed ? PACK : 1); i < 9 * channels; i += LANES * (packed ? PACK : 1)) {
        const int tap = i / channels, row = top + tap / 3, column = left + tap % 3;
        const bool inside = row >= 0 && row < height && column >= 0 && column < width;
        const T* from = x + ((size_t)row * width + column) * channels + i % channels;
        if (packed) {
            float v[PACK] = {};
            if (inside) load_pack(from, v);
            store_pack(patches + i, v);
        } else {
            store(patches + i, inside ? load(from) : 0.0f);
        }
    }
}

#define IM2COL(name, T)                                                                                                \
    KERNEL im2col_##name(const T* x, T* patches, int pixels, int height, int width, int channels, int stride) {        \
        im2col(x, patches, pixels, height, width, channels, stride);                                                   \
    }
FOR_EACH_TYPE(IM2COL)

// The gradient of im2col's x: each pixel's sum over the patches that it is part of, taps in rising order. Bytes: g once (a
// pixel is in up to 9 patches, each of which has a value of its own for it), gx once.
KERNEL im2col_backward(const float* g, float* gx, long long count, int height, int width, int channels, int stride) {
    const int out_height = (height - 1) / stride + 1, out_width = (width - 1) / stride + 1;
    each(count, false, [](long long) {}, [&](long long i) {
        const int channel = i % channels, x = i / channels % width;
        const long long row = i / channels / width, image = row / height;
        const int y = row % height;
        float sum = 0.0f;
        for (int tap = 0; tap < 9; tap++) {
            const int top = y + 1 - tap / 3, left = x + 1 - tap % 3;
            if (top < 0 || left < 0 || top % stride != 0 || left % stride != 0) continue;
            const int to_row = top / stride, to_column = left / stride;
            if (to_row >= out_height || to_column >= out_width) continue;
            sum += g[(((image * out_height + to_row) * out_width + to_column) * 9 + tap) * channels + channel];
        }
        gx[i] = sum;
    });
}
