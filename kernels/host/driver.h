// A GPU that is the CPU: the CUDA driver's entry points that the project and its crates call, over the host build of kernels.
//
// Work is done by a thread of its own, in the order in which it was given, so that what the program forgets to wait for shows.
// Memory starts as NaN and ends as NaN, has guards at both ends, and is freed in the stream's order. A capture takes what a
// real one takes and refuses what that refuses. EMULATED_GPU_MEMORY (bytes) bounds memory; after EMULATED_GPU_LAUNCHES
// launches the GPU is lost; captures fail that have more than EMULATED_GPU_CAPTURES nodes, and
// take EMULATED_GPU_CAPTURE_MS for each launch.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>

#define API extern "C" __attribute__((visibility("default")))

enum Result {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_FOUND = 500,
    NOT_READY = 600,
    LAUNCH_FAILED = 719,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
    CAPTURE_UNMATCHED = 903,
    CAPTURE_ISOLATION = 905,
};

struct Stream;

namespace gpu {

// Has the GPU do something after all that came before, or puts it into the graph that the stream captures.
Result enqueue(Stream* stream, std::function<void()> work);
// Whether the `size` bytes from `at` are memory of the GPU's; aborts where not, since nothing good can follow.
void check(const void* at, size_t size, const char* what);

} // namespace gpu
