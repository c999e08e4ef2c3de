// The gradient of the selective scan: src/ops/selective_scan/reference.rs, `backward`, for state size 1. float32 throughout.
//
// Owns: one block, LANES channels of one image, in all directions one after the other, so that gx has one owner. Of each
// direction it goes through the tiles twice: forwards, leaving the state before each tile in `states`, and backwards,
// where each tile's steps are computed anew from that state, so that no (L, K, D) tensor is stored. The gradient of the
// state runs backwards through the warps by pairs (a, b), as the state runs forwards.
// Sums over channels (projections) cover the block's own; those over images (parameters) the block's image: the results are
// partial, `g_projections` (D / 32, B, L, K, R + 2) and `g_parameters` (B, K, R + 3, D), and sum_rows adds them up in order.
// The sums with the rank axis are small products in shared memory: each element has one thread and one order.
// Coalesced: as the scan. Bytes: x and grad K times (L2), projections 2 K times, gx K times, the partial sums once.
#include "selective_scan.cuh"

KERNEL selective_scan_backward(const float* x, const float* projections, const float* parameters,
                               const uint32_t* orders, const float* grad, float* states, float* gx,
                               float* g_projections, float* g_parameters, int tokens, int channels, int directions,
                               int rank, int length, int merge) {
    const ScanSizes s = {tokens, channels, directions, rank, length};
    const ScanShared shared(dynamic_shared, rank);
    float* g_weight = shared.rest;                    // (R, LANES): each element belongs to one thread
    float* g_dt = g_weight + rank * LANES;            // (TILE, LANES + 1)
    float* g_drive = g_dt + TILE * (LANES + 1);       // (WARPS, LANES): b of the gradient's pairs
    const int lane = threadIdx.x, warp = threadIdx.y, first = warp * STEPS, p = s.projected();
    const int channel = blockIdx.x * LANES + lane, batch = blockIdx.y;
    const bool inside = channel < channels;
    const int tiles = (length + TILE - 1) / TILE;
    const size_t image = (size_t)batch * tokens;
    const float* image_projections = projections + image * directions * p;
    const float* column = x + image * channels + channel;
    float* gx_column = gx + image * channels + channel;
    float* state_column = states + (size_t)batch * tiles * channels + channel;
    float* gp = g_projections + ((size_t)blockIdx.x * gridDim.y * tokens + image) * directions * p;

    for (int k = 0; k < directions; k++) {
        const ScanParameters w = scan_parameters(parameters, s, k, channel, shared);
        const float* gy_column =
            grad + ((size_t)batch * (merge ? 1 : directions) + (merge ? 0 : k)) * tokens * channels + channel;
        for (int r = warp; r < rank; r += WARPS) g_weight[r * LANES + lane] = 0.0f;
        float carry = 0.0f, g_carry = 0.0f, g_bias = 0.0f, g_a = 0.0f, g_skip = 0.0f;
        for (int tile = 0; tile < tiles; tile++) {
            if (warp == 0 && inside) state_column[(size_t)tile * channels] = carry;
            scan_stage(image_projections, orders, s, k, tile, shared);
            scan_steps(column, s, inside, w, shared);
            scan_enter(carry, shared);
            __syncthreads();
        }
        for (int tile = tiles - 1; tile >= 0; tile--) {
            scan_stage(image_projections, orders, s, k, tile, shared);
            const ScanSteps steps = scan_steps(column, s, inside, w, shared);
            carry = inside ? state_column[(size_t)tile * channels] : 0.0f;
            float h[STEPS + 1], gy[STEPS]; // h[i + 1] is the state after step i
            h[0] = scan_enter(carry, shared);
            float g_pair = 0.0f; // b of the pair; its a is the state's, which is in shared memory
#pragma unroll
            for (int i = 0; i < STEPS; i++) {
                const float b = shared.projections[(first + i) * p + rank];
                h[i + 1] = fmaf(steps.decay[i], h[i], steps.delta[i] * b * steps.x[i]);
                gy[i] = steps.token[i] < END && inside ? gy_column[(size_t)steps.token[i] * channels] : 0.0f;
            }
#pragma unroll
            for (int i = STEPS - 1; i >= 0; i--) {
                const float c = shared.projections[(first + i) * p + rank + 1];
                g_pair = fmaf(c, gy[i], g_pair) * steps.decay[i];
            }
            g_drive[warp * LANES + lane] = g_pair;
            __syncthreads();
            float gh = g_carry;
            for (int v = WARPS - 1; v >= 0; v--) {
                if (v == warp) gh = g_carry;
                g_carry = fmaf(shared.decay[v * LANES + lane], g_carry, g_drive[v * LANES + lane]);
            }
#pragma unroll
            for (int i = STEPS - 1; i >= 0; i--) {
                const float b = shared.projections[(first + i) * p + rank];
                const float c = shared.projections[(first + i) * p + rank + 1];
                const float here = fmaf(c, gy[i], gh), kept = h[i] * steps.decay[i];
                const bool end = steps.token[i] == END;
                const float step = end ? 0.0f : here * fmaf(kept, w.a, b * steps.x[i]) * sigmoid(steps.dt[i]);
                const float driven = here * steps.delta[i];
                g_dt[(first + i) * (LANES + 1) + lane] = step;
                g_bias += step;
                g_a = fmaf(here * kept, steps.delta[i], g_a);
                g_skip = fmaf(gy[i], steps.x[i], g_skip);
                gh = here * steps.decay[i];
                const float gb = warp_sum(driven * steps.x[i]), gc = warp_sum(gy[i] * h[i + 1]);
                if (steps.token[i] >= END) continue;
                if (lane == 0) {
                    float* to = gp + ((size_t)steps.token[i] * directions + k) * p + rank;
                    to[0] = gb;
                    to[1] = gc;
                }
                if (inside) {
                    float* to = gx_column + (size_t)steps.token[i] * channels;
                    const float value = fmaf(driven, b, gy[i] * w.skip);
                    *to = k == 0 ? value : *to + value;
                }
            }
            __syncthreads();
            for (int r = warp; r < rank; r += WARPS) {
                float sum = g_weight[r * LANES + lane];
                for (int t = 0; t < TILE; t++)
                    sum = fmaf(g_dt[t * (LANES + 1) + lane], shared.projections[t * p + r], sum);
                g_weight[r * LANES + lane] = sum;
            }
            for (int i = warp * LANES + lane; i < TILE * rank; i += LANES * WARPS) {
                const int t = i / rank, r = i % rank;
                if (shared.tokens[t] >= END) continue;
                float sum = 0.0f;
                for (int d = 0; d < LANES; d++)
                    sum = fmaf(g_dt[t * (LANES + 1) + d], shared.weight[r * (LANES + 1) + d], sum);
                gp[((size_t)shared.tokens[t] * directions + k) * p + r] = sum;
            }
            __syncthreads();
        }
        float* to = g_parameters + ((size_t)batch * directions + k) * (rank + 3) * channels + channel;
        const float sums[3] = {g_bias, g_a * w.a /* dA / dA_log = A */, g_skip};
        for (int i = 0; i < 3; i++) {
            const float sum = sum_warps(sums[i], g_drive);
            if (warp == 0 && inside) to[(size_t)(rank + i) * channels] = sum;
            __syncthreads();
        }
        for (int r = warp; r < rank; r += WARPS)
            if (inside) to[(size_t)r * channels] = g_weight[r * LANES + lane];
        __syncthreads(); // before the next direction's parameters
    }
}
