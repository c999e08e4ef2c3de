// Sums in a fixed order. Lanes are channels (columns), so every row is read in whole runs. float32: the sums.
#include "common.cuh"

// The sum over K directions of y (B, K, L, D), each times its channel's gate (B, K, D) where one is given, to (B, L, D), in the
// order 0, 1, ... K - 1. src/ops/pool.rs. Owns: one thread, one element of the result. Bytes: y once, the result once.
template <bool GATED, typename Y, typename T>
DEVICE void merge_directions(const Y* y, const T* gate, T* out, int tokens, int channels, int directions) {
    const int channel = blockIdx.y * LANES + threadIdx.x, token = blockIdx.x * WARPS + threadIdx.y;
    if (channel >= channels || token >= tokens) return;
    const size_t image = blockIdx.z;
    float sum = 0.0f;
    for (int k = 0; k < directions; k++) {
        const float value = load(y + ((image * directions + k) * tokens + token) * channels + channel);
        sum = fmaf(value, GATED ? load(gate + (image * directions + k) * channels + channel) : 1.0f, sum);
    }
    store(out + (image * tokens + token) * channels + channel, sum);
}

// The mean over L of x (N, L, C). Owns: one block, LANES channels of one N; warp w its tokens w, w + WARPS, ... Bytes: x once.
template <typename T>
DEVICE void mean_tokens(const T* x, T* mean, int tokens, int channels) {
    __shared__ float room[WARPS * LANES];
    const int channel = blockIdx.y * LANES + threadIdx.x;
    const bool inside = channel < channels;
    float sum = 0.0f;
    for (int token = threadIdx.y; inside && token < tokens; token += WARPS)
        sum += load(x + ((size_t)blockIdx.x * tokens + token) * channels + channel);
    sum = sum_warps(sum, room);
    if (threadIdx.y == 0 && inside) store(mean + (size_t)blockIdx.x * channels + channel, sum / tokens);
}

#define REDUCTIONS(name, T)                                                                                            \
    KERNEL merge_directions_##name(const float* y, T* out, int tokens, int channels, int directions) {                 \
        merge_directions<false, float, T>(y, nullptr, out, tokens, channels, directions);                              \
    }                                                                                                                  \
    KERNEL gated_merge_##name(const T* y, const T* gate, T* out, int tokens, int channels, int directions) {           \
        merge_directions<true>(y, gate, out, tokens, channels, directions);                                            \
    }                                                                                                                  \
    KERNEL mean_tokens_##name(const T* x, T* mean, int tokens, int channels) { mean_tokens(x, mean, tokens, channels); }
FOR_EACH_TYPE(REDUCTIONS)

// The sums of columns of x (rows, columns) over `height` rows a block, (blocks, columns), for sum_rows: a bias's gradient. Owns:
// one block, LANES columns of its rows, which its warps take in turn. Bytes: x once.
#define SUM_COLUMNS(name, T)                                                                                           \
    KERNEL sum_columns_##name(const T* x, float* sums, int rows, int columns, int height) {                            \
        __shared__ float room[WARPS * LANES];                                                                          \
        const int column = blockIdx.y * LANES + threadIdx.x, first = blockIdx.x * height;                              \
        const int end = min(rows, first + height);                                                                     \
        float sum = 0.0f;                                                                                              \
        for (int row = first + threadIdx.y; column < columns && row < end; row += WARPS)                               \
            sum += load(x + (size_t)row * columns + column);                                                           \
        sum = sum_warps(sum, room);                                                                                    \
        if (threadIdx.y == 0 && column < columns) sums[(size_t)blockIdx.x * columns + column] = sum;                   \
    }
FOR_EACH_TYPE(SUM_COLUMNS)

// The sum over the rows of (rows, columns): what puts partial sums of blocks together. Owns: one thread, one column.
KERNEL sum_rows(const float* partial, float* sums, int rows, int columns) {
    const int column = (blockIdx.x * WARPS + threadIdx.y) * LANES + threadIdx.x;
    if (column >= columns) return;
    float sum = 0.0f;
    for (int row = 0; row < rows; row++) sum += partial[(size_t)row * columns + column];
    sums[column] = sum;
}
