// Runs launches that it reads from standard input, each request a list of buffers and of launches (see tests/kernels.rs, which
// writes them), and answers with the buffers that had no contents. Buffers are as long as asked for to the byte, so the
// address sanitizer sees what goes beyond; what has no contents starts as NaN.
#include "../kernels.cu"
#include "block.h"
#include "registry.h"

using emulator::fail;

namespace {

constexpr Index BLOCK = {LANES, WARPS, 1};

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

int main() {
#define ENTRY(name) {#name, wrap(name, #name)},
    const std::map<std::string, Kernel> kernels = {KERNELS(ENTRY)};
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
            Index grid;
            grid.x = read<uint32_t>(), grid.y = read<uint32_t>(), grid.z = read<uint32_t>();
            const uint32_t shared_size = read<uint32_t>();
            std::vector<Argument> arguments(read<uint32_t>());
            for (Argument& argument : arguments) {
                argument.kind = static_cast<Kind>(read<uint32_t>());
                argument.value = read<int64_t>();
                if (argument.kind == Kind::BUFFER) argument.pointer = memory.at(argument.value);
            }
            emulator::run_grid(grid, BLOCK, shared_size, falling, kernel->second(arguments));
        }
        for (const size_t i : answers) std::fwrite(memory[i], buffers[i].size(), 1, stdout);
        for (void* pointer : memory) std::free(pointer);
        std::fflush(stdout);
    }
}
