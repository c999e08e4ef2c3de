// The selective scan over K orders of an image, state size 1: the equations of src/ops/selective_scan/mod.rs.
//
// Owns: one block, LANES channels of one image; in all directions one after the other where `merge`, in direction
// blockIdx.z where not (for small batches, whose directions are summed afterwards by merge_directions, and for the gate).
// Within a direction each token is written by one lane; a barrier stands between directions, and each adds to what those
// before it left: the sum's order is 0, 1, ... K - 1. The order is read as a table: x is gathered and y scattered by token,
// rows of 32 channels at a time, and no reordered copy exists.
// Coalesced: lanes are channels of one token, in x and y. Projections are read by rows of R + 2 and shared by the block.
// float32: parameters, step size, decay, state. T: x, projections. O: y, and so, where `merge`, partial sums over directions;
// where directions are summed afterwards it is float32.
// Bytes: x once from memory and K - 1 times from L2, projections once for each 32 channels (L2), y once (and K - 1 times L2).
// Operations a step and channel: 2 R + 30 or so on multiply-add units, 2 on special function units.
#include "selective_scan.cuh"

template <typename T, typename O>
DEVICE void scan(const T* x, const T* projections, const float* parameters, const uint32_t* orders, O* y, ScanSizes s,
                 int merge) {
    const ScanShared shared(dynamic_shared, s.rank);
    const int channel = blockIdx.x * LANES + threadIdx.x, batch = blockIdx.y;
    const bool inside = channel < s.channels;
    const T* image = projections + (size_t)batch * s.tokens * s.directions * s.projected();
    const T* column = x + (size_t)batch * s.tokens * s.channels + channel;
    const int k_first = merge ? 0 : blockIdx.z, k_end = merge ? s.directions : k_first + 1;
    for (int k = k_first; k < k_end; k++) {
        O* out = y + ((size_t)batch * (merge ? 1 : s.directions) + (merge ? 0 : k)) * s.tokens * s.channels + channel;
        const ScanParameters w = scan_parameters(parameters, s, k, channel, shared);
        float carry = 0.0f;
        for (int tile = 0; tile * TILE < s.length; tile++) {
            scan_stage(image, orders, s, k, tile, shared);
            const ScanSteps steps = scan_steps(column, s, inside, w, shared);
            float h = scan_enter(carry, shared);
            const int first = threadIdx.y * STEPS;
#pragma unroll
            for (int i = 0; i < STEPS; i++) {
                const float* projected = shared.projections + (first + i) * s.projected();
                h = fmaf(steps.decay[i], h, steps.delta[i] * projected[s.rank] * steps.x[i]);
                if (steps.token[i] >= END || !inside) continue;
                O* to = out + (size_t)steps.token[i] * s.channels;
                const float value = fmaf(projected[s.rank + 1], h, w.skip * steps.x[i]);
                store(to, k == k_first ? value : load(to) + value);
            }
            __syncthreads(); // the tile's shared memory is free, and y is seen by all
        }
    }
}

#define SCAN_AS(name, T, O)                                                                                            \
    KERNEL name(const T* x, const T* projections, const float* parameters, const uint32_t* orders, O* y, int tokens,   \
                int channels, int directions, int rank, int length, int merge) {                                       \
        scan(x, projections, parameters, orders, y, ScanSizes{tokens, channels, directions, rank, length}, merge);     \
    }
#define SCAN(name, T) SCAN_AS(selective_scan_##name, T, T)
FOR_EACH_TYPE(SCAN)
SCAN_AS(selective_scan_f16_to_f32, __half, float)
SCAN_AS(selective_scan_bf16_to_f32, __nv_bfloat16, float)
