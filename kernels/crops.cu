// Crops of a 4:2:0 frame, planar or semi-planar, 8 to 16 bits, to the network's batch (N, size, size, RGB): chroma
// interpolated, reduced by a power of two, matrix applied, rounded to 8 bits, normalised. The same arithmetic in the same order
// as src/frame/convert.rs, src/frame/reduce.rs and src/crops/mod.rs, without fused multiply-adds, so that float32 crops have the
// CPU's bits.
//
// Owns: one thread, one pixel of one crop, which is the mean of 2^level x 2^level pixels of the frame. Coalesced: lanes are
// neighbouring pixels of a row, in the planes and in the batch (three values a lane, in one run). float32: all but the sums over
// a block, which are exact in 32-bit integers. Bytes: the crop's planes once (chroma rows from L2 again), the batch once:
// 1.5 * 4^level read and 3 sizeof(T) written a pixel, so what crosses the bus is the frame's YUV, and of it the crops alone.
#include "common.cuh"

// Where a crop lies, as src/ops/kernels/crops.rs gives it: the bytes at which its frame's Y, U and V begin, their strides, and
// the bytes from one chroma sample to the next; bytes of a sample and the bits that it is shifted up by; chroma samples in a row,
// rows of them, whether they lie between luma rows, whether rows belong to two fields; left and top of the crop; the exponent of
// its reduction.
struct Place {
    int y, u, v, y_stride, c_stride, c_step, bytes, shift, chroma_columns, chroma_rows, centred, interlaced, left, top, level, rest;
};
constexpr int CONSTANTS = 17;

// One component's samples: sample i of row r is at data[r * stride + i * step].
struct Component {
    const uint8_t* data;
    int stride, step;
};

DEVICE int stored(Component c, int bytes, int shift, int row, int column) {
    const uint8_t* p = c.data + (size_t)row * c.stride + (size_t)column * c.step;
    return bytes == 1 ? p[0] : (p[0] | p[1] << 8) >> shift;
}

DEVICE float sample(Component c, int bytes, int shift, int row, int column) {
    return (float)stored(c, bytes, shift, row, column);
}

// The chroma rows between which picture row y lies, and the weight of the second in eighths (`chroma_rows` of convert.rs).
struct ChromaRows {
    int above, below, eighths;
};

DEVICE ChromaRows chroma_rows(const Place& place, int y) {
    const bool fields = place.interlaced != 0 && place.chroma_rows > 1;
    const int step = fields ? 2 : 1, field = fields ? y % 2 : 0;
    const int lower = place.centred == 0 ? 0 : !fields ? 2 : field == 0 ? 1 : 3;
    const int position = 4 * (y / step) + 8 - lower, last = (place.chroma_rows - 1 - field) / step;
    const auto row = [&](int shifted) { return min(max(shifted - 1, 0), last) * step + field; };
    return {row(position / 8), row(position / 8 + 1), position % 8};
}

// Mean of luma over a block of 2^level pixels a side with its corner at (x, y).
DEVICE float mean_luma(Component c, const Place& place, int x, int y) {
    const int side = 1 << place.level;
    uint32_t sum = 0;
    for (int row = 0; row < side; row++)
        for (int column = 0; column < side; column++) sum += stored(c, place.bytes, place.shift, y + row, x + column);
    return __fmul_rn((float)sum, 1.0f / (float)(1 << 2 * place.level));
}

// The same of chroma: interpolated with the weights of columns in quarters and those of rows in eighths.
DEVICE float mean_chroma(Component c, const Place& place, const float* weights, int x, int y) {
    const int side = 1 << place.level;
    uint32_t sum = 0;
    for (int row = 0; row < side; row++) {
        const ChromaRows rows = chroma_rows(place, y + row);
        for (int column = x; column < x + side; column++) {
            const float* two = weights + (column % 2 == 0 ? 0 : 2);
            const uint32_t quarters[2] = {(uint32_t)(4.0f * two[0]), (uint32_t)(4.0f * two[1])};
            const int first = column / 2 - (column % 2 == 0 ? 1 : 0);
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const int at = min(max(first + i, 0), place.chroma_columns - 1);
                const uint32_t above = stored(c, place.bytes, place.shift, rows.above, at);
                const uint32_t below = stored(c, place.bytes, place.shift, rows.below, at);
                sum += quarters[i] * ((8 - rows.eighths) * above + rows.eighths * below);
            }
        }
    }
    return __fmul_rn((float)sum, 1.0f / (float)(32u << 2 * place.level));
}

// Chroma at picture row y, column i of its plane, between two rows.
DEVICE float chroma_column(Component c, int bytes, int shift, int above, int below, float weight, int i, int columns) {
    i = min(max(i, 0), columns - 1);
    const float a = sample(c, bytes, shift, above, i);
    if (weight == 0.0f) return a;
    return __fadd_rn(a, __fmul_rn(__fsub_rn(sample(c, bytes, shift, below, i), a), weight));
}

// A crop's `colour`: black, span, neutral, rv, gu, gv, bu of convert.rs; mean and standard deviation of R, G, B; the weights of
// (previous, this) chroma column for even pixels, of (this, next) for odd ones.
template <typename T>
DEVICE void crops(const uint8_t* data, const uint32_t* places, const float* constants, T* batch, int size) {
    const int left = blockIdx.x * LANES + threadIdx.x, top = blockIdx.y * WARPS + threadIdx.y;
    if (left >= size || top >= size) return;
    const Place& place = reinterpret_cast<const Place*>(places)[blockIdx.z];
    const float* colour = constants + CONSTANTS * blockIdx.z;
    const int bytes = place.bytes, shift = place.shift;
    const int x = place.left + (left << place.level), y = place.top + (top << place.level);
    const Component plane_y = {data + place.y, place.y_stride, bytes};
    const Component plane_u = {data + place.u, place.c_stride, place.c_step};
    const Component plane_v = {data + place.v, place.c_stride, place.c_step};
    float luma, u, v;
    if (place.level > 0) {
        luma = mean_luma(plane_y, place, x, y);
        u = mean_chroma(plane_u, place, colour + 13, x, y);
        v = mean_chroma(plane_v, place, colour + 13, x, y);
    } else {
        const ChromaRows rows = chroma_rows(place, y);
        const float weight = (float)rows.eighths / 8.0f;
        const float* weights = colour + 13 + (x % 2 == 0 ? 0 : 2);
        const int column = x / 2 - (x % 2 == 0 ? 1 : 0);
        const auto chroma = [&](Component c) {
            const float first = chroma_column(c, bytes, shift, rows.above, rows.below, weight, column, place.chroma_columns);
            const float second = chroma_column(c, bytes, shift, rows.above, rows.below, weight, column + 1, place.chroma_columns);
            return __fadd_rn(__fmul_rn(first, weights[0]), __fmul_rn(second, weights[1]));
        };
        luma = sample(plane_y, bytes, shift, y, x);
        u = chroma(plane_u);
        v = chroma(plane_v);
    }
    const float l = __fdiv_rn(__fsub_rn(luma, colour[0]), colour[1]);
    u = __fsub_rn(u, colour[2]);
    v = __fsub_rn(v, colour[2]);
    const float rgb[3] = {__fadd_rn(l, __fmul_rn(colour[3], v)),
                          __fadd_rn(__fadd_rn(l, __fmul_rn(colour[4], u)), __fmul_rn(colour[5], v)),
                          __fadd_rn(l, __fmul_rn(colour[6], u))};
    T* out = batch + (((size_t)blockIdx.z * size + top) * size + left) * 3;
#pragma unroll
    for (int c = 0; c < 3; c++) {
        // Rounded to 8 bits, as pictures are that networks learn from: 1.5 * 2^23 leaves no room for fractions.
        const float within = fminf(fmaxf(rgb[c], 0.0f), 1.0f), round = 12582912.0f;
        const float value = __fdiv_rn(__fsub_rn(__fadd_rn(__fmul_rn(within, 255.0f), round), round), 255.0f);
        store(out + c, __fdiv_rn(__fsub_rn(value, colour[7 + c]), colour[10 + c]));
    }
}

#define CROPS(name, T)                                                                                                 \
    KERNEL crops_##name(const uint8_t* data, const uint32_t* places, const float* constants, T* batch, int size) {     \
        crops(data, places, constants, batch, size);                                                                   \
    }
FOR_EACH_TYPE(CROPS)
