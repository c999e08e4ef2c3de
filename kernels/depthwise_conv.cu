// Depthwise 3x3 convolution, padding 1, with SiLU; x (B, H, W, C), weight (C, 3, 3). src/ops/depthwise_conv.rs.
//
// Owns: one thread, one channel of a strip of STRIP pixels of a row; three columns of the neighbourhood stay in registers
// while it goes along, so each pixel is asked for 3 (STRIP + 2) / STRIP times, by neighbours in one block, and comes from
// memory once. Coalesced: lanes are channels. float32: taps and sums.
// Bytes: x once, y once. Operations: 9 multiply-adds an element, with SiLU one exponential.
#include "common.cuh"

constexpr int STRIP = 8;
constexpr int TAPS = 9;

// What becomes of the convolution's sum.
enum Finish { PLAIN, SILU, SILU_GRADIENT };

// `grad` is read for SILU_GRADIENT alone: the result is grad silu'(conv(x)). With `flipped` taps the convolution is the
// gradient of itself.
template <typename T>
DEVICE void depthwise_conv(const T* x, const float* weight, const T* grad, T* y, int batch, int height, int width,
                           int channels, int flipped, int finish) {
    const int channel = blockIdx.y * LANES + threadIdx.x;
    const int strips = (width + STRIP - 1) / STRIP;
    const int strip = blockIdx.x * WARPS + threadIdx.y;
    if (channel >= channels || strip >= batch * height * strips) return;
    const int row = strip / strips % height, left = strip % strips * STRIP;
    const size_t image = (size_t)(strip / strips / height) * height * width;
    float taps[TAPS];
#pragma unroll
    for (int i = 0; i < TAPS; i++) taps[i] = weight[(size_t)channel * TAPS + (flipped ? TAPS - 1 - i : i)];
    float columns[3][3]; // [column][row] around the pixel
    auto read = [&](int at, float* column) {
#pragma unroll
        for (int dy = 0; dy < 3; dy++) {
            const int y = row + dy - 1;
            const bool inside = y >= 0 && y < height && at >= 0 && at < width;
            column[dy] = inside ? load(x + (image + (size_t)y * width + at) * channels + channel) : 0.0f;
        }
    };
    read(left - 1, columns[0]);
    read(left, columns[1]);
#pragma unroll
    for (int i = 0; i < STRIP; i++) {
        if (left + i >= width) return;
        read(left + i + 1, columns[(i + 2) % 3]);
        float sum = 0.0f;
#pragma unroll
        for (int tap = 0; tap < TAPS; tap++) sum = fmaf(columns[(i + tap % 3) % 3][tap / 3], taps[tap], sum);
        const size_t at = (image + (size_t)row * width + left + i) * channels + channel;
        if (finish == SILU) sum = silu(sum);
        if (finish == SILU_GRADIENT) sum = load(grad + at) * silu_slope(sum);
        store(y + at, sum);
    }
}

#define DEPTHWISE_CONV(name, T)                                                                                        \
    KERNEL depthwise_conv_##name(const T* x, const float* weight, const T* grad, T* y, int batch, int height,          \
                                 int width, int channels, int flipped, int finish) {                                   \
        depthwise_conv(x, weight, grad, y, batch, height, width, channels, flipped, finish);                           \
    }
FOR_EACH_TYPE(DEPTHWISE_CONV)

// The weight's gradient, g being that of the convolution's sum: partial sums of each image, (B, C, 3, 3), for sum_rows.
// Owns: one block, LANES channels of one image; warp w its rows w, w + WARPS, ... Bytes: x and g once (x from L2 thrice).
KERNEL depthwise_conv_weight_gradient(const float* x, const float* g, float* g_weight, int height, int width,
                                      int channels) {
    __shared__ float room[WARPS * LANES];
    const int channel = blockIdx.x * LANES + threadIdx.x;
    const bool inside = channel < channels;
    const size_t image = (size_t)blockIdx.y * height * width;
    float sums[TAPS] = {};
    for (int row = threadIdx.y; inside && row < height; row += WARPS) {
        for (int column = 0; column < width; column++) {
            const float gy = g[(image + (size_t)row * width + column) * channels + channel];
#pragma unroll
            for (int tap = 0; tap < TAPS; tap++) {
                const int y = row + tap / 3 - 1, at = column + tap % 3 - 1;
                if (y < 0 || y >= height || at < 0 || at >= width) continue;
                sums[tap] = fmaf(gy, x[(image + (size_t)y * width + at) * channels + channel], sums[tap]);
            }
        }
    }
#pragma unroll
    for (int tap = 0; tap < TAPS; tap++) {
        const float sum = sum_warps(sums[tap], room);
        if (threadIdx.y == 0 && inside) g_weight[((size_t)blockIdx.y * channels + channel) * TAPS + tap] = sum;
        __syncthreads();
    }
}
