// Runs a grid one block at a time, each of a block's threads a fiber that runs until it meets the others, in rising or falling
// order: so a barrier that is missing shows, as threads run far ahead of one another. A fiber whose thread has ended takes the
// next, so a kernel without barriers needs but one.
#pragma once
#include "emulator.h"

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define ENTER_FIBER(save, bottom, size) __sanitizer_start_switch_fiber(save, bottom, size)
#define ENTERED_FIBER(save, bottom, size) __sanitizer_finish_switch_fiber(save, bottom, size)
#else
#define ENTER_FIBER(save, bottom, size) (void)0
#define ENTERED_FIBER(save, bottom, size) (void)0
#endif

Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

constexpr int WARP = 32;
constexpr size_t STACK = 256 << 10;
enum class State { READY, RUNNING, BARRIER, EXCHANGE, DONE };

[[noreturn]] inline void fail(const std::string& what) {
    std::fprintf(stderr, "emulator: %s\n", what.c_str());
    std::exit(1);
}

// Where a fiber, or the scheduler, goes on.
#if defined(__x86_64__)
// swapcontext would ask the kernel for the signal mask each time: nine tenths of the emulator's time.
using Context = void*;
extern "C" void emulator_switch(Context* from, Context to);
__asm__(".text\n.type emulator_switch, @function\nemulator_switch:\n"
        "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp, (%rdi)\nmov %rsi, %rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");
inline void switch_to(Context& from, Context& to) { emulator_switch(&from, to); }
inline void make(Context& context, char* stack, size_t size, void (*main)()) {
    // A stack as the switch leaves it: six registers, where to return to, and as aligned as after a call.
    void** top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack + size) / 16 * 16) - 2;
    *top = reinterpret_cast<void*>(main);
    context = top - 6;
}
#else
using Context = ucontext_t;
inline void switch_to(Context& from, Context& to) { swapcontext(&from, &to); }
inline void make(Context& context, char* stack, size_t size, void (*main)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = size;
    makecontext(&context, main, 0);
}
#endif

struct Fiber {
    Context context;
    std::unique_ptr<char[]> stack{new char[STACK]};
    void* fake_stack = nullptr;
};

struct Thread {
    State state;
    Index index;
    int exchanges; // their parity tells two in a row apart
    Fiber* fiber;
    uint64_t given[2];
};

inline std::vector<std::unique_ptr<Fiber>> fibers;
inline std::vector<Fiber*> idle;
inline std::vector<Thread> threads;
// How many threads of each warp, and of all, are in a state.
struct Counts {
    int exchange, done;
};
inline std::vector<Counts> warps;
inline int at_barrier, done;
inline size_t next_thread;
inline bool from_last;
inline int current;
inline Fiber* running;
inline std::vector<char> shared;
inline const std::function<void()>* body;
inline Context scheduler;
inline void* scheduler_fake_stack;
inline const void* scheduler_stack;
inline size_t scheduler_stack_size;

inline void to_scheduler(Fiber& self) {
    ENTER_FIBER(&self.fake_stack, scheduler_stack, scheduler_stack_size);
    switch_to(self.context, scheduler);
    ENTERED_FIBER(self.fake_stack, &scheduler_stack, &scheduler_stack_size);
}

inline void be(int thread) {
    current = thread;
    threadIdx = threads[thread].index;
    threads[thread].state = State::RUNNING;
}

inline void fiber_main() {
    ENTERED_FIBER(nullptr, &scheduler_stack, &scheduler_stack_size);
    for (Fiber* self = running;; to_scheduler(*self)) {
        while (next_thread < threads.size()) {
            const size_t i = next_thread++;
            be(from_last ? threads.size() - 1 - i : i);
            threads[current].fiber = self;
            (*body)();
            threads[current].state = State::DONE;
            warps[current / WARP].done++;
            done++;
        }
        idle.push_back(self);
    }
}

inline void resume(Fiber& fiber) {
    running = &fiber;
    ENTER_FIBER(&scheduler_fake_stack, fiber.stack.get(), STACK);
    switch_to(scheduler, fiber.context);
    ENTERED_FIBER(scheduler_fake_stack, nullptr, nullptr);
}

inline void resume(int thread) {
    be(thread);
    resume(*threads[thread].fiber);
}

// Back to the scheduler, until the others have come as far.
inline void wait(State state) {
    Thread& self = threads[current];
    self.state = state;
    (state == State::BARRIER ? at_barrier : warps[current / WARP].exchange)++;
    to_scheduler(*self.fiber);
}

inline void start_fiber() {
    if (idle.empty()) {
        fibers.push_back(std::make_unique<Fiber>());
        Fiber& fiber = *fibers.back();
        make(fiber.context, fiber.stack.get(), STACK, fiber_main);
        idle.push_back(&fiber);
    }
    Fiber* fiber = idle.back();
    idle.pop_back();
    resume(*fiber);
}

inline void run_block(Index size, bool falling) {
    const int all = size.x * size.y * size.z;
    threads.resize(all);
    warps.assign((all + WARP - 1) / WARP, {0, 0});
    at_barrier = done = 0;
    for (int i = 0; i < all; i++) {
        const unsigned u = i;
        threads[i] = {State::READY, {u % size.x, u / size.x % size.y, u / size.x / size.y}, 0, nullptr, {}};
    }
    from_last = falling;
    for (next_thread = 0; next_thread < threads.size();) start_fiber();
    const auto at = [&](int i, int first, int end) { return falling ? end - 1 - i : first + i; };
    const int count = warps.size();
    while (done < all) {
        bool moved = false;
        for (int i = 0; i < count; i++) {
            const int warp = at(i, 0, count), first = WARP * warp, end = std::min(first + WARP, all);
            const int waiting = warps[warp].exchange;
            if (waiting > 0 && warps[warp].done > 0) fail("a lane has left before its warp's exchange");
            if (waiting < end - first) continue;
            warps[warp].exchange = 0;
            for (int lane = 0; lane < end - first; lane++) resume(at(lane, first, end));
            moved = true;
        }
        if (at_barrier > 0 && at_barrier + done == all) {
            at_barrier = 0;
            for (int i = 0; i < all; i++)
                if (threads[at(i, 0, all)].state == State::BARRIER) resume(at(i, 0, all));
            moved = true;
        }
        if (!moved) fail("threads wait for each other at different places");
    }
}

// `thread` is what each thread of the grid does.
inline void run_grid(Index grid, Index block, size_t shared_size, bool falling, const std::function<void()>& thread) {
    body = &thread;
    gridDim = grid;
    blockDim = block;
    for (blockIdx.z = 0; blockIdx.z < grid.z; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < grid.y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++) {
                shared = std::vector<char>(shared_size, '\xff'); // anew, so that the address sanitizer knows its end
                run_block(block, falling);
            }
}

} // namespace emulator

float* emulator::shared_memory() { return reinterpret_cast<float*>(shared.data()); }
void emulator::barrier() { wait(State::BARRIER); }

uint64_t emulator::exchange(uint64_t value, int mask) {
    Thread& self = threads[current];
    const int parity = self.exchanges++ % 2, other = current ^ mask;
    self.given[parity] = value;
    wait(State::EXCHANGE);
    return other < static_cast<int>(threads.size()) ? threads[other].given[parity] : value;
}
