// Runs launches that it reads from standard input, each request a list of buffers and of launches (see tests/kernels.rs, which
// writes them), and answers with the buffers that had no contents. Buffers are as long as asked for to the byte, so the
// address sanitizer sees what goes beyond; what has no contents starts as NaN.
#include "../kernels.cu"
#include "registry.h"

#include <cstdio>
#include <cstdlib>
#include <string>
#include <ucontext.h>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define ENTER_FIBER(save, bottom, size) __sanitizer_start_switch_fiber(save, bottom, size)
#define ENTERED_FIBER(save, bottom, size) __sanitizer_finish_switch_fiber(save, bottom, size)
#else
#define ENTER_FIBER(save, bottom, size) (void)0
#define ENTERED_FIBER(save, bottom, size) (void)0
#endif

Index threadIdx, blockIdx, gridDim;

namespace {

constexpr int THREADS = LANES * WARPS;
constexpr size_t STACK = 256 << 10;
enum class State { RUNNING, BARRIER, EXCHANGE, DONE };

[[noreturn]] void fail(const std::string& what) {
    std::fprintf(stderr, "emulator: %s\n", what.c_str());
    std::exit(1);
}

struct Fiber {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(STACK);
    State state = State::DONE;
    int exchanges = 0; // their parity tells two in a row apart
    void* fake_stack = nullptr;
};

std::vector<Fiber> fibers(THREADS);
ucontext_t scheduler;
void* scheduler_fake_stack;
const void* scheduler_stack;
size_t scheduler_stack_size;
int current;
float exchanged[2][THREADS];
std::vector<char> shared;
const std::function<void()>* body;

// Back to the scheduler, until the others have come as far.
void wait(State state) {
    Fiber& self = fibers[current];
    self.state = state;
    ENTER_FIBER(state == State::DONE ? nullptr : &self.fake_stack, scheduler_stack, scheduler_stack_size);
    swapcontext(&self.context, &scheduler);
    ENTERED_FIBER(self.fake_stack, &scheduler_stack, &scheduler_stack_size);
}

void fiber_main() {
    ENTERED_FIBER(nullptr, &scheduler_stack, &scheduler_stack_size);
    (*body)();
    wait(State::DONE);
}

void resume(int thread) {
    current = thread;
    threadIdx = {thread % LANES, thread / LANES, 0};
    Fiber& fiber = fibers[thread];
    fiber.state = State::RUNNING;
    ENTER_FIBER(&scheduler_fake_stack, fiber.stack.data(), STACK);
    swapcontext(&scheduler, &fiber.context);
    ENTERED_FIBER(scheduler_fake_stack, nullptr, nullptr);
}

// How many of the threads from `first` are in a state.
int count(State state, int first, int threads) {
    int n = 0;
    for (int i = first; i < first + threads; i++) n += fibers[i].state == state;
    return n;
}

// Runs one block, its threads in rising or falling order.
void run_block(bool falling) {
    const auto thread = [&](int i) { return falling ? THREADS - 1 - i : i; };
    for (Fiber& fiber : fibers) {
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = STACK;
        makecontext(&fiber.context, fiber_main, 0);
    }
    for (int i = 0; i < THREADS; i++) resume(thread(i));
    while (count(State::DONE, 0, THREADS) < THREADS) {
        bool moved = false;
        for (int i = 0; i < WARPS; i++) {
            const int warp = LANES * (falling ? WARPS - 1 - i : i), waiting = count(State::EXCHANGE, warp, LANES);
            if (waiting > 0 && count(State::DONE, warp, LANES) > 0) fail("a lane has left before its warp's exchange");
            if (waiting < LANES) continue;
            for (int lane = 0; lane < LANES; lane++) resume(warp + (falling ? LANES - 1 - lane : lane));
            moved = true;
        }
        const int waiting = count(State::BARRIER, 0, THREADS);
        if (waiting > 0 && waiting + count(State::DONE, 0, THREADS) == THREADS) {
            for (int i = 0; i < THREADS; i++)
                if (fibers[thread(i)].state == State::BARRIER) resume(thread(i));
            moved = true;
        }
        if (!moved) fail("threads wait for each other at different places");
    }
}

template <typename V> V read() {
    V value;
    if (std::fread(&value, sizeof value, 1, stdin) != 1) fail("a request ends early");
    return value;
}

std::string read_bytes(size_t size) {
    std::string bytes(size, '\0');
    if (size > 0 && std::fread(bytes.data(), size, 1, stdin) != 1) fail("a request ends early");
    return bytes;
}

} // namespace

float* emulator::shared_memory() { return reinterpret_cast<float*>(shared.data()); }
void emulator::barrier() { wait(State::BARRIER); }

float emulator::exchange(float value, int mask) {
    float* values = exchanged[fibers[current].exchanges++ % 2];
    values[current] = value;
    const int other = current ^ mask;
    wait(State::EXCHANGE);
    return values[other];
}

int main() {
    const auto kernels = registry();
    for (int first; (first = std::getchar()) != EOF;) {
        const bool falling = first != 0;
        std::vector<std::string> buffers(read<uint32_t>());
        std::vector<size_t> answers;
        std::vector<void*> memory;
        for (size_t i = 0; i < buffers.size(); i++) {
            const size_t size = read<uint64_t>();
            const bool given = read<uint32_t>() != 0;
            memory.push_back(std::malloc(size));
            buffers[i] = given ? read_bytes(size) : std::string(size, '\xff');
            std::memcpy(memory[i], buffers[i].data(), size);
            if (!given) answers.push_back(i);
        }
        for (uint32_t launches = read<uint32_t>(); launches > 0; launches--) {
            const std::string name = read_bytes(read<uint32_t>());
            const auto kernel = kernels.find(name);
            if (kernel == kernels.end()) fail("no kernel " + name);
            gridDim.x = read<uint32_t>(), gridDim.y = read<uint32_t>(), gridDim.z = read<uint32_t>();
            const uint32_t shared_size = read<uint32_t>();
            std::vector<Argument> arguments(read<uint32_t>());
            for (Argument& argument : arguments) {
                argument.kind = static_cast<Kind>(read<uint32_t>());
                argument.value = read<int64_t>();
                if (argument.kind == Kind::BUFFER) argument.pointer = memory.at(argument.value);
            }
            const std::function<void()> call = kernel->second(arguments);
            body = &call;
            for (blockIdx.z = 0; blockIdx.z < gridDim.z; blockIdx.z++)
                for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++)
                    for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) {
                        shared = std::vector<char>(shared_size, '\xff');
                        run_block(falling);
                    }
        }
        for (const size_t i : answers) std::fwrite(memory[i], buffers[i].size(), 1, stdout);
        for (void* pointer : memory) std::free(pointer);
        std::fflush(stdout);
    }
}
