// What is done element by element: GELU (exact, by erf) and SiLU with their gradients, modulation, patches of convolutions.
//
// Owns: one thread, one element of the result at a time, a grid's width apart. Coalesced: neighbouring threads take
// neighbouring elements. float32: the value. Bytes: each operand once, the result once. src/ops/{activation,modulate,im2col}.rs.
#include "common.cuh"

template <typename Body>
DEVICE void each(long long count, Body body) {
    const long long width = (long long)gridDim.x * LANES * WARPS;
    for (long long i = ((long long)blockIdx.x * WARPS + threadIdx.y) * LANES + threadIdx.x; i < count; i += width) body(i);
}

#define ACTIVATION(name, T)                                                                                            \
    KERNEL gelu_##name(const T* x, T* y, long long count) {                                                            \
        each(count, [&](long long i) { store(y + i, gelu(load(x + i))); });                                            \
    }                                                                                                                  \
    KERNEL silu_##name(const T* x, T* y, long long count) {                                                            \
        each(count, [&](long long i) { store(y + i, silu(load(x + i))); });                                            \
    }                                                                                                                  \
    KERNEL gelu_backward_##name(const T* x, const T* g, T* gx, long long count) {                                      \
        each(count, [&](long long i) { store(gx + i, load(g + i) * gelu_slope(load(x + i))); });                       \
    }                                                                                                                  \
    KERNEL silu_backward_##name(const T* x, const T* g, T* gx, long long count) {                                      \
        each(count, [&](long long i) { store(gx + i, load(g + i) * silu_slope(load(x + i))); });                       \
    }
FOR_EACH_TYPE(ACTIVATION)

// x (1 + gamma) + beta; x (B, L, C), gamma and beta (B, M, C) with M = 1 or L.
#define MODULATE(name, T)                                                                                              \
    KERNEL modulate_##name(const T* x, const T* gamma, const T* beta, T* y, long long count, int tokens, int places,   \
                           int channels) {                                                                             \
        each(count, [&](long long i) {                                                                                 \
            const long long row = i / channels, image = row / tokens;                                                  \
            const long long at = (image * places + (places == 1 ? 0 : row % tokens)) * channels + i % channels;        \
            store(y + i, fmaf(load(x + i), 1.0f + load(gamma + at), load(beta + at)));                                 \
        });                                                                                                            \
    }
FOR_EACH_TYPE(MODULATE)

// (B, H, W, C) to (B, H', W', 9 C): 3x3 neighbourhoods of every stride-th pixel, zeros outside.
#define IM2COL(name, T)                                                                                                \
    KERNEL im2col_##name(const T* x, T* patches, long long count, int height, int width, int channels, int stride) {   \
        const int out_height = (height - 1) / stride + 1, out_width = (width - 1) / stride + 1;                        \
        each(count, [&](long long i) {                                                                                 \
            const int channel = i % channels, tap = i / channels % 9;                                                  \
            const long long pixel = i / channels / 9, row = pixel / out_width, image = row / out_height;               \
            const int y = row % out_height * stride + tap / 3 - 1, at = pixel % out_width * stride + tap % 3 - 1;      \
            const bool inside = y >= 0 && y < height && at >= 0 && at < width;                                         \
            store(patches + i,                                                                                         \
                  inside ? load(x + ((image * height + y) * width + at) * channels + channel) : 0.0f);                 \
        });                                                                                                            \
    }
FOR_EACH_TYPE(IM2COL)

// The gradient of im2col's x: each pixel's sum over the patches that it is part of, taps in rising order. Bytes: g once (a
// pixel is in up to 9 patches, each of which has a value of its own for it), gx once.
KERNEL im2col_backward(const float* g, float* gx, long long count, int height, int width, int channels, int stride) {
    const int out_height = (height - 1) / stride + 1, out_width = (width - 1) / stride + 1;
    each(count, [&](long long i) {
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
