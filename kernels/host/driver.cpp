// See driver.h.
#include "../kernels.cu"

#include "block.h"
#include "driver.h"
#include "registry.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

std::map<std::string, PackedKernel> candle_kernels();

using Pointer = uint64_t;
using Clock = std::chrono::steady_clock;

struct Graph;

struct Stream {
    Graph* capture = nullptr;
    bool broken = false;
};

struct Graph {
    std::vector<std::function<void()>> nodes;
    std::vector<char*> memory; // allocated in it, there for as long as it is
    std::vector<char*> live;   // allocated and not freed in it
    bool launched = false;
};

struct Event {
    bool done = true;
    Clock::time_point at;
};

struct Function {
    std::string name;
    const PackedKernel* kernel;
};

namespace {

constexpr size_t GUARD = 256;
constexpr unsigned char GUARDED = 0xa5;

// Never destroyed: the GPU's thread waits on them when the program ends.
std::mutex& mutex = *new std::mutex; // of everything below
std::condition_variable &arrived = *new std::condition_variable, &finished = *new std::condition_variable;
auto& queue = *new std::deque<std::function<void()>>;
bool busy = false;
std::map<char*, size_t> memory; // by where it begins
size_t used = 0;
long launches = 0;
Result lost = SUCCESS;
Stream* capturing = nullptr;

size_t environment(const char* name, size_t otherwise) {
    const char* text = std::getenv(name);
    return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

void work() {
    std::unique_lock lock(mutex);
    for (;;) {
        arrived.wait(lock, [] { return !queue.empty(); });
        const std::function<void()> next = std::move(queue.front());
        queue.pop_front();
        busy = true;
        lock.unlock();
        next();
        lock.lock();
        busy = false;
        if (queue.empty()) finished.notify_all();
    }
}

void drain(std::unique_lock<std::mutex>& lock) {
    finished.wait(lock, [] { return queue.empty() && !busy; });
}

void push(std::function<void()> next) {
    static std::once_flag once;
    std::call_once(once, [] {
        std::thread(work).detach();
        // What is still to be done is done before what it is done with is gone.
        std::atexit([] {
            std::unique_lock lock(mutex);
            drain(lock);
        });
    });
    queue.push_back(std::move(next));
    arrived.notify_one();
}

// Something that a stream which captures refuses.
bool refused(Stream* stream) {
    if (stream && stream->capture) stream->broken = true;
    return stream && stream->capture;
}

Result enqueue_locked(Stream* stream, std::function<void()> next) {
    if (lost != SUCCESS) return lost;
    if (stream && stream->capture) {
        if (stream->capture->nodes.size() >= environment("EMULATED_GPU_CAPTURES", SIZE_MAX)) stream->broken = true;
        if (stream->broken) return CAPTURE_INVALIDATED;
        stream->capture->nodes.push_back(std::move(next));
    } else {
        push(std::move(next));
    }
    return SUCCESS;
}

void check_locked(const void* at, size_t size, const char* what) {
    const char* begin = static_cast<const char*>(at);
    auto next = memory.upper_bound(const_cast<char*>(begin));
    if (next != memory.begin()) {
        const auto& [start, length] = *std::prev(next);
        if (begin + size <= start + length) return;
    }
    emulator::fail(std::string(what) + " of memory that is not the GPU's");
}

void nan(char* at, size_t size) { std::memset(at, 0xff, size); }

void check_guards(char* at, size_t size) {
    for (size_t i = 0; i < GUARD; i++)
        if (static_cast<unsigned char>(at[i - GUARD]) != GUARDED || static_cast<unsigned char>(at[size + i]) != GUARDED)
            emulator::fail("a kernel has written beyond its buffer of " + std::to_string(size) + " bytes");
}

char* allocate(size_t size) {
    char* whole = static_cast<char*>(std::aligned_alloc(GUARD, (size + 3 * GUARD - 1) / GUARD * GUARD));
    std::memset(whole, GUARDED, GUARD);
    std::memset(whole + GUARD + size, GUARDED, GUARD);
    nan(whole + GUARD, size);
    return whole + GUARD;
}

// Gives the GPU's memory back. The lock is not held where it runs as work.
void release(char* at) {
    const std::lock_guard lock(mutex);
    const auto found = memory.find(at);
    if (found == memory.end()) emulator::fail("memory is freed that is not there");
    check_guards(at, found->second);
    nan(at, found->second);
    used -= found->second;
    memory.erase(found);
    std::free(at - GUARD);
}

Result copy(Stream* stream, Pointer to, Pointer from, size_t size) {
    check_locked(reinterpret_cast<void*>(to), size, "a copy to");
    check_locked(reinterpret_cast<void*>(from), size, "a copy from");
    return enqueue_locked(stream, [=] { std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), size); });
}

const std::map<std::string, PackedKernel>& kernels() {
    static const auto& all = *new auto([] {
#define ENTRY(name) {#name, packed(name)},
        std::map<std::string, PackedKernel> all = {KERNELS(ENTRY)};
        for (auto& [name, kernel] : candle_kernels())
            if (!all.emplace(name, kernel).second) emulator::fail("two kernels are called " + name);
        return all;
    }());
    return all;
}

} // namespace

Result gpu::enqueue(Stream* stream, std::function<void()> next) {
    const std::lock_guard lock(mutex);
    return enqueue_locked(stream, std::move(next));
}

void gpu::check(const void* at, size_t size, const char* what) {
    const std::lock_guard lock(mutex);
    check_locked(at, size, what);
}

// The device and its context.

API int cuInit(unsigned) { return SUCCESS; }
API int cuDeviceGetCount(int* count) { return *count = 1, SUCCESS; }
API int cuDeviceGet(int* device, int index) { return *device = index, index == 0 ? SUCCESS : INVALID_VALUE; }
API int cuDeviceGetName(char* name, int length, int) { return std::snprintf(name, length, "emulated GPU"), SUCCESS; }
API int cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = environment("EMULATED_GPU_MEMORY", 8ull << 30), SUCCESS; }
API int cuDeviceGetAttribute(int* value, int attribute, int) {
    switch (attribute) { // of an H100, where they are asked for
    case 16: *value = 132; break; // multiprocessors
    case 75: *value = 9; break;   // compute capability
    case 76: *value = 0; break;
    case 115: *value = 1; break; // pools of memory
    default: *value = 0;
    }
    return SUCCESS;
}
API int cuDevicePrimaryCtxRetain(void** context, int) { return *context = &mutex, SUCCESS; }
API int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
API int cuCtxSetCurrent(void*) { return SUCCESS; }
API int cuCtxGetCurrent(void** context) { return *context = &mutex, SUCCESS; }
API int cuCtxSynchronize() {
    std::unique_lock lock(mutex);
    drain(lock);
    return lost;
}
API int cuMemGetInfo_v2(size_t* free, size_t* total) {
    const std::lock_guard lock(mutex);
    *total = environment("EMULATED_GPU_MEMORY", 8ull << 30);
    *free = *total - std::min(used, *total);
    return SUCCESS;
}
API int cuGetErrorName(int error, const char** name) {
    *name = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR";
    return SUCCESS;
}
API int cuGetErrorString(int error, const char** text) {
    static thread_local char buffer[64];
    std::snprintf(buffer, sizeof buffer, error == OUT_OF_MEMORY ? "out of memory" : "error %d of the emulated GPU", error);
    return *text = buffer, SUCCESS;
}

// Streams and events.

API int cuStreamCreate(Stream** stream, unsigned) { return *stream = new Stream, SUCCESS; }
API int cuStreamDestroy_v2(Stream* stream) { return delete stream, SUCCESS; }
API int cuStreamSynchronize(Stream* stream) {
    std::unique_lock lock(mutex);
    if (refused(stream)) return CAPTURE_UNSUPPORTED;
    drain(lock);
    return lost;
}
API int cuStreamWaitEvent(Stream* stream, Event*, unsigned) {
    const std::lock_guard lock(mutex);
    return refused(stream) ? CAPTURE_ISOLATION : lost; // there is one queue
}
API int cuEventCreate(Event** event, unsigned) { return *event = new Event, SUCCESS; }
API int cuEventDestroy_v2(Event* event) {
    const std::lock_guard lock(mutex);
    push([event] { delete event; });
    return SUCCESS;
}
API int cuEventRecord(Event* event, Stream* stream) {
    const std::lock_guard lock(mutex);
    if (refused(stream)) return CAPTURE_UNSUPPORTED;
    event->done = false;
    return enqueue_locked(stream, [event] {
        const std::lock_guard lock(mutex);
        event->done = true;
        event->at = Clock::now();
    });
}
API int cuEventSynchronize(Event*) { return cuCtxSynchronize(); }
API int cuEventQuery(Event* event) {
    const std::lock_guard lock(mutex);
    return event->done ? SUCCESS : NOT_READY;
}
API int cuEventElapsedTime_v2(float* milliseconds, Event* from, Event* to) {
    const std::lock_guard lock(mutex);
    if (!from->done || !to->done) return NOT_READY;
    *milliseconds = std::chrono::duration<float, std::milli>(to->at - from->at).count();
    return SUCCESS;
}
API int cuEventElapsedTime(float* milliseconds, Event* from, Event* to) {
    return cuEventElapsedTime_v2(milliseconds, from, to);
}

// Memory.

API int cuMemAllocAsync(Pointer* pointer, size_t size, Stream* stream) {
    const std::lock_guard lock(mutex);
    if (lost != SUCCESS) return lost;
    if (size == 0) return INVALID_VALUE;
    if (used + size > environment("EMULATED_GPU_MEMORY", 8ull << 30)) return OUT_OF_MEMORY;
    char* at = allocate(size);
    memory[at] = size;
    used += size;
    *pointer = reinterpret_cast<Pointer>(at);
    if (stream && stream->capture) {
        stream->capture->memory.push_back(at);
        stream->capture->live.push_back(at);
        return enqueue_locked(stream, [=] { nan(at, size); });
    }
    return SUCCESS;
}
API int cuMemAlloc_v2(Pointer* pointer, size_t size) { return cuMemAllocAsync(pointer, size, nullptr); }
API int cuMemFreeAsync(Pointer pointer, Stream* stream) {
    const std::lock_guard lock(mutex);
    if (lost != SUCCESS) return lost;
    char* at = reinterpret_cast<char*>(pointer);
    if (!stream || !stream->capture) {
        push([=] { release(at); });
        return SUCCESS;
    }
    auto& live = stream->capture->live;
    const auto found = std::find(live.begin(), live.end(), at);
    if (found == live.end()) { // not of this graph
        stream->broken = true;
        return INVALID_VALUE;
    }
    live.erase(found);
    const size_t size = memory.at(at);
    return enqueue_locked(stream, [=] {
        check_guards(at, size);
        nan(at, size);
    });
}
API int cuMemFree_v2(Pointer pointer) { return cuMemFreeAsync(pointer, nullptr); }
API int cuMemcpyHtoDAsync_v2(Pointer to, const void* from, size_t size, Stream* stream) {
    const std::lock_guard lock(mutex);
    if (refused(stream)) return CAPTURE_UNSUPPORTED;
    check_locked(reinterpret_cast<void*>(to), size, "a copy to");
    const auto first = static_cast<const char*>(from);
    const auto kept = std::make_shared<std::string>(first, first + size); // pageable memory is read before the call returns
    return enqueue_locked(stream, [=] { std::memcpy(reinterpret_cast<void*>(to), kept->data(), size); });
}
API int cuMemcpyHtoD_v2(Pointer to, const void* from, size_t size) { return cuMemcpyHtoDAsync_v2(to, from, size, nullptr); }
API int cuMemcpyDtoHAsync_v2(void* to, Pointer from, size_t size, Stream* stream) {
    std::unique_lock lock(mutex);
    if (refused(stream)) return CAPTURE_UNSUPPORTED;
    if (lost != SUCCESS) return lost;
    check_locked(reinterpret_cast<void*>(from), size, "a copy from");
    drain(lock);
    if (lost == SUCCESS) std::memcpy(to, reinterpret_cast<void*>(from), size);
    return lost;
}
API int cuMemcpyDtoH_v2(void* to, Pointer from, size_t size) { return cuMemcpyDtoHAsync_v2(to, from, size, nullptr); }
API int cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t size, Stream* stream) {
    const std::lock_guard lock(mutex);
    return copy(stream, to, from, size);
}
API int cuMemcpyDtoD_v2(Pointer to, Pointer from, size_t size) { return cuMemcpyDtoDAsync_v2(to, from, size, nullptr); }
API int cuMemsetD8Async(Pointer at, unsigned char value, size_t size, Stream* stream) {
    const std::lock_guard lock(mutex);
    check_locked(reinterpret_cast<void*>(at), size, "a fill");
    return enqueue_locked(stream, [=] { std::memset(reinterpret_cast<void*>(at), value, size); });
}
API int cuMemsetD8_v2(Pointer at, unsigned char value, size_t size) { return cuMemsetD8Async(at, value, size, nullptr); }

// Kernels.

API int cuModuleLoadData(void** module, const void*) {
    const std::lock_guard lock(mutex);
    if (refused(capturing)) return CAPTURE_UNSUPPORTED; // it may have to wait for the GPU
    return *module = &mutex, SUCCESS;
}
API int cuModuleUnload(void*) { return SUCCESS; }
API int cuModuleGetFunction(Function** function, void*, const char* name) {
    const auto found = kernels().find(name);
    if (found == kernels().end()) {
        std::fprintf(stderr, "emulated GPU: no kernel %s\n", name);
        return NOT_FOUND;
    }
    static std::map<std::string, Function> functions;
    const std::lock_guard lock(mutex);
    *function = &functions.emplace(name, Function{name, &found->second}).first->second;
    return SUCCESS;
}
API int cuFuncSetAttribute(Function*, int, int) { return SUCCESS; }
API int cuLaunchKernel(Function* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                       unsigned shared, Stream* stream, void** arguments, void**) {
    if (gx == 0 || gy > 65535 || gz > 65535 || gy * gz == 0 || bx * by * bz > 1024 || shared > 48 << 10) return INVALID_VALUE;
    const Body body = (*function->kernel)(arguments);
    static const auto pause = std::chrono::milliseconds(environment("EMULATED_GPU_CAPTURE_MS", 0));
    if (pause.count() > 0 && stream && stream->capture) std::this_thread::sleep_for(pause);
    const std::lock_guard lock(mutex);
    static const long bound = environment("EMULATED_GPU_LAUNCHES", -1);
    if (bound >= 0 && ++launches > bound) lost = LAUNCH_FAILED;
    return enqueue_locked(stream, [=] {
        static bool falling = false;
        emulator::run_grid({gx, gy, gz}, {bx, by, bz}, shared, falling = !falling, body);
    });
}

// Graphs.

API int cuStreamBeginCapture_v2(Stream* stream, int) {
    const std::lock_guard lock(mutex);
    if (!stream || stream->capture) return CAPTURE_UNSUPPORTED;
    stream->capture = new Graph;
    stream->broken = false;
    capturing = stream;
    return SUCCESS;
}
API int cuStreamIsCapturing(Stream* stream, int* status) {
    const std::lock_guard lock(mutex);
    *status = !stream || !stream->capture ? 0 : stream->broken ? 2 : 1;
    return SUCCESS;
}
API int cuGraphDestroy(Graph* graph) {
    const std::lock_guard lock(mutex);
    push([graph] {
        for (char* at : graph->memory) release(at);
        delete graph;
    });
    return SUCCESS;
}
API int cuStreamEndCapture(Stream* stream, Graph** graph) {
    std::unique_lock lock(mutex);
    *graph = nullptr;
    if (!stream || !stream->capture) return CAPTURE_UNMATCHED;
    Graph* captured = std::exchange(stream->capture, nullptr);
    capturing = nullptr;
    if (!stream->broken) return *graph = captured, SUCCESS;
    lock.unlock();
    cuGraphDestroy(captured);
    return CAPTURE_INVALIDATED;
}
API int cuGraphInstantiateWithFlags(Graph** executable, Graph* graph, unsigned long long) { return *executable = graph, SUCCESS; }
API int cuGraphExecDestroy(Graph*) { return SUCCESS; }
API int cuGraphUpload(Graph*, Stream*) { return SUCCESS; }
API int cuGraphLaunch(Graph* graph, Stream* stream) {
    const std::lock_guard lock(mutex);
    // What it allocates and does not free would be there twice.
    if (refused(stream) || (graph->launched && !graph->live.empty())) return INVALID_VALUE;
    graph->launched = true;
    if (lost != SUCCESS) return lost;
    for (const auto& node : graph->nodes) push(node);
    return SUCCESS;
}
