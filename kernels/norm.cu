// LayerNorm over channels: (x - mean) / sqrt(var + 1e-5) weight + bias; x (rows, C). src/ops/norm.rs. Before it, a product's bias
// or a residual may be added, after it GELU taken.
//
// Owns: one warp, one row, which it reads three times (mean, variance, result), from memory once and then from L1.
// Coalesced: lanes take neighbouring channels. float32: mean, variance, weight, bias.
// Bytes: x once (and the residual), y once (and the sum). Operations: about 7 an element.
#include "common.cuh"

constexpr float EPSILON = 1e-5f;

struct Moments {
    float mean, scale;
};

template <typename Value>
DEVICE Moments moments(Value value, int channels) {
    float sum = 0.0f, squares = 0.0f;
    for (int c = threadIdx.x; c < channels; c += LANES) sum += value(c);
    const float mean = warp_sum(sum) / channels;
    for (int c = threadIdx.x; c < channels; c += LANES) squares = fmaf(value(c) - mean, value(c) - mean, squares);
    return {mean, 1.0f / sqrtf(warp_sum(squares) / channels + EPSILON)};
}

// The norm of row `value`.
template <typename T, typename Value>
DEVICE void norm_row(Value value, const float* weight, const float* bias, T* y, int channels, bool then_gelu) {
    const Moments m = moments(value, channels);
    for (int c = threadIdx.x; c < channels; c += LANES) {
        const float normal = fmaf((value(c) - m.mean) * m.scale, weight[c], bias[c]);
        store(y + c, then_gelu ? gelu(normal) : normal);
    }
}

// `shift` (C) is added to each row before, where `shifted`.
template <typename T>
DEVICE void layer_norm(const T* x, const T* shift, const float* weight, const float* bias, T* y, int rows, int channels,
                       int shifted, int then_gelu) {
    const int row = blockIdx.x * WARPS + threadIdx.y;
    if (row >= rows) return;
    x += (size_t)row * channels, y += (size_t)row * channels;
    if (shifted)
        norm_row([&](int c) { return load(x + c) + load(shift + c); }, weight, bias, y, channels, then_gelu);
    else
        norm_row([&](int c) { return load(x + c); }, weight, bias, y, channels, then_gelu);
}

// `sum` becomes x + residual, rounded to T, and y the norm of that.
template <typename T>
DEVICE void add_layer_norm(const T* x, const T* residual, const float* weight, const float* bias, T* sum, T* y, int rows,
                           int channels) {
    const int row = blockIdx.x * WARPS + threadIdx.y;
    if (row >= rows) return;
    const size_t at = (size_t)row * channels;
    x += at, residual += at, sum += at, y += at;
    for (int c = threadIdx.x; c < channels; c += LANES) store(sum + c, load(x + c) + load(residual + c));
    // Each lane reads again what it has written itself.
    norm_row([&](int c) { return load(sum + c); }, weight, bias, y, channels, false);
}

#define LAYER_NORM(name, T)                                                                                            \
    KERNEL layer_norm_##name(const T* x, const T* shift, const float* weight, const float* bias, T* y, int rows,       \
                             int channels, int shifted, int then_gelu) {                                               \
        layer_norm(x, shift, weight, bias, y, rows, channels, shifted, then_gelu);                                     \
    }                                                                                                                  \
    KERNEL add_layer_norm_##name(const T* x, const T* residual, const float* weight, const float* bias, T* sum, T* y,  \
                                 int rows, int channels) {                                                             \
        add_layer_norm(x, residual, weight, bias, sum, y, rows, channels);                                             \
    }
FOR_EACH_TYPE(LAYER_NORM)

// The gradient of x; `statistics` (rows, 2) becomes mean and 1 / standard deviation for the kernel below. A warp a row.
KERNEL layer_norm_backward(const float* x, const float* weight, const float* g, float* gx, float* statistics, int rows,
                           int channels) {
    const int row = blockIdx.x * WARPS + threadIdx.y;
    if (row >= rows) return;
    x += (size_t)row * channels, g += (size_t)row * channels, gx += (size_t)row * channels;
    const Moments m = moments([&](int c) { return x[c]; }, channels);
    float a = 0.0f, b = 0.0f;
    for (int c = threadIdx.x; c < channels; c += LANES) {
        a = fmaf(g[c], weight[c], a);
        b = fmaf(g[c] * weight[c], (x[c] - m.mean) * m.scale, b);
    }
    a = warp_sum(a) / channels;
    b = warp_sum(b) / channels;
    for (int c = threadIdx.x; c < channels; c += LANES)
        gx[c] = m.scale * (g[c] * weight[c] - a - (x[c] - m.mean) * m.scale * b);
    if (threadIdx.x == 0) {
        statistics[2 * (size_t)row] = m.mean;
        statistics[2 * (size_t)row + 1] = m.scale;
    }
}

// The gradients of weight and bias: sums over `height` rows a block, (blocks, 2, C), for sum_rows. A block has LANES channels,
// of which its warps take the rows in turn.
KERNEL layer_norm_parameter_gradients(const float* x, const float* g, const float* statistics, float* sums, int rows,
                                      int channels, int height) {
    __shared__ float room[WARPS * LANES];
    const int channel = blockIdx.y * LANES + threadIdx.x;
    const bool inside = channel < channels;
    const int first = blockIdx.x * height, end = min(rows, first + height);
    float g_weight = 0.0f, g_bias = 0.0f;
    for (int row = first + threadIdx.y; inside && row < end; row += WARPS) {
        const size_t at = (size_t)row * channels + channel;
        g_weight = fmaf(g[at], (x[at] - statistics[2 * (size_t)row]) * statistics[2 * (size_t)row + 1], g_weight);
        g_bias += g[at];
    }
    g_weight = sum_warps(g_weight, room);
    __syncthreads();
    g_bias = sum_warps(g_bias, room);
    if (threadIdx.y == 0 && inside) {
        sums[(size_t)(2 * blockIdx.x) * channels + channel] = g_weight;
        sums[(size_t)(2 * blockIdx.x + 1) * channels + channel] = g_bias;
    }
}
