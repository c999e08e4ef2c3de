// What the selective scan and its gradient share: how a block of LANES channels by WARPS warps holds one tile of a sequence.
//
// A tile is STEPS consecutive steps of each warp. A lane owns its channel's steps in registers. From h -> decay h + drive of
// single steps follows h -> a h + b of the warp's STEPS; pairs (a, b) go through shared memory, and each warp applies those
// of the warps before it to the state at the tile's beginning. So L is spread over warps at the price of one more
// multiply-add a step, without a second pass over memory.
#pragma once
#include "common.cuh"

constexpr int STEPS = 8;
constexpr int TILE = STEPS * WARPS;
// An entry of an order that reads no pixel, as ScanOrders::PADDING.
constexpr uint32_t PADDING = 0xffffffffu;
// A place after the sequence's end: the state passes unchanged.
constexpr uint32_t END = 0xfffffffeu;

// Sizes, in the order in which src/ops/kernels/scan.rs gives them.
struct ScanSizes {
    int tokens, channels, directions, rank, length;
    __device__ int projected() const { return rank + 2; }
};

// One direction's parameters of a lane's channel; zero beyond the last channel.
struct ScanParameters {
    float bias, a, skip;
};

// Dynamic shared memory of a block. Rows of LANES + 1 floats where rows as well as columns are read by neighbouring lanes.
struct ScanShared {
    float* weight;      // (R, LANES + 1)
    float* projections; // (TILE, R + 2)
    float* decay;       // (WARPS, LANES): a of each warp
    float* drive;       // (WARPS, LANES): b of each warp
    uint32_t* tokens;   // (TILE)
    float* rest;        // what the caller has after that
    __device__ ScanShared(float* memory, int rank) {
        weight = memory;
        projections = weight + rank * (LANES + 1);
        decay = projections + TILE * (rank + 2);
        drive = decay + WARPS * LANES;
        tokens = reinterpret_cast<uint32_t*>(drive + WARPS * LANES);
        rest = reinterpret_cast<float*>(tokens + TILE);
    }
};

// A lane's STEPS steps of a tile.
struct ScanSteps {
    uint32_t token[STEPS];
    float dt[STEPS], delta[STEPS], decay[STEPS], x[STEPS];
};

// Reads direction k's parameters (K, R + 3, D). Ends with a barrier.
DEVICE ScanParameters scan_parameters(const float* parameters, ScanSizes s, int k, int channel, ScanShared shared) {
    const float* p = parameters + (size_t)k * (s.rank + 3) * s.channels + channel;
    const bool inside = channel < s.channels;
    for (int r = threadIdx.y; r < s.rank; r += WARPS)
        shared.weight[r * (LANES + 1) + threadIdx.x] = inside ? p[(size_t)r * s.channels] : 0.0f;
    ScanParameters out = {0.0f, 0.0f, 0.0f};
    if (inside) {
        out.bias = p[(size_t)s.rank * s.channels];
        out.a = -expf(p[(size_t)(s.rank + 1) * s.channels]);
        out.skip = p[(size_t)(s.rank + 2) * s.channels];
    }
    __syncthreads();
    return out;
}

// Brings a tile of direction k's order and projections into shared memory; at padding they are zero. `image` is the batch's
// projections (L, K, R + 2) of one image. Ends with a barrier.
template <typename T>
DEVICE void scan_stage(const T* image, const uint32_t* order, ScanSizes s, int k, int tile, ScanShared shared) {
    const int thread = threadIdx.y * LANES + threadIdx.x, p = s.projected();
    for (int i = thread; i < TILE; i += LANES * WARPS) {
        const int t = tile * TILE + i;
        shared.tokens[i] = t < s.length ? order[(size_t)k * s.length + t] : END;
    }
    __syncthreads();
    for (int i = thread; i < TILE * p; i += LANES * WARPS) {
        const uint32_t token = shared.tokens[i / p];
        shared.projections[i] =
            token < END ? load(image + ((size_t)token * s.directions + k) * p + i % p) : 0.0f;
    }
    __syncthreads();
}

// Computes this warp's steps of the staged tile and puts their pair (a, b) into shared memory. Ends with a barrier.
// `x` is the image's column of the lane's channel, (L) with stride D; zero is read beyond the last channel.
template <typename T>
DEVICE ScanSteps scan_steps(const T* x, ScanSizes s, bool inside, ScanParameters w, ScanShared shared) {
    ScanSteps steps;
    const int first = threadIdx.y * STEPS, p = s.projected();
#pragma unroll
    for (int i = 0; i < STEPS; i++) steps.dt[i] = w.bias;
    for (int r = 0; r < s.rank; r++) {
        const float weight = shared.weight[r * (LANES + 1) + threadIdx.x];
#pragma unroll
        for (int i = 0; i < STEPS; i++) steps.dt[i] = fmaf(shared.projections[(first + i) * p + r], weight, steps.dt[i]);
    }
    float a = 1.0f, b = 0.0f;
#pragma unroll
    for (int i = 0; i < STEPS; i++) {
        const uint32_t token = shared.tokens[first + i];
        const bool end = token == END;
        steps.token[i] = token;
        steps.x[i] = token < END && inside ? load(x + (size_t)token * s.channels) : 0.0f;
        steps.delta[i] = end ? 0.0f : softplus(steps.dt[i]);
        steps.decay[i] = end ? 1.0f : __expf(steps.delta[i] * w.a);
        b = fmaf(steps.decay[i], b, steps.delta[i] * shared.projections[(first + i) * p + s.rank] * steps.x[i]);
        a *= steps.decay[i];
    }
    shared.decay[threadIdx.y * LANES + threadIdx.x] = a;
    shared.drive[threadIdx.y * LANES + threadIdx.x] = b;
    __syncthreads();
    return steps;
}

// The state before this warp's steps; `carry`, the state at the tile's beginning, becomes that at its end.
DEVICE float scan_enter(float& carry, ScanShared shared) {
    float entered = carry;
    for (int v = 0; v < WARPS; v++) {
        if (v == static_cast<int>(threadIdx.y)) entered = carry;
        carry = fmaf(shared.decay[v * LANES + threadIdx.x], carry, shared.drive[v * LANES + threadIdx.x]);
    }
    return entered;
}
