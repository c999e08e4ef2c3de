// Stands in for the NVIDIA driver and CUDA's libraries when a program is linked, and loads them when it asks: so one binary
// runs with and without them. build.rs makes `symbols.h`, a line SYMBOL(library, name) for each function, from symbols.txt.
// A call jumps through the function's slot; before loading, and where a library is too old to have a function, to one that
// returns its library's error.
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>

enum { cuda, cublas, cublaslt, curand, nvrtc, LIBRARIES };

// CUDA_ERROR_NOT_FOUND, CUBLAS_STATUS_NOT_INITIALIZED (of both), CURAND_STATUS_INITIALIZATION_FAILED, NVRTC_ERROR_INTERNAL_ERROR.
static int missing_cuda(void) { return 500; }
static int missing_cublas(void) { return 1; }
static int missing_cublaslt(void) { return 1; }
static int missing_curand(void) { return 203; }
static int missing_nvrtc(void) { return 11; }

#define SYMBOL(library, name) __attribute__((visibility("hidden"))) void *qmambaiqa_slot_##name = (void *)missing_##library;
#include "symbols.h"
#undef SYMBOL

#if defined(__x86_64__)
#define JUMP(name) "jmp *qmambaiqa_slot_" #name "(%rip)\n"
#elif defined(__aarch64__)
#define JUMP(name) "adrp x16, qmambaiqa_slot_" #name "\nldr x16, [x16, :lo12:qmambaiqa_slot_" #name "]\nbr x16\n"
#else
#error "feature cuda: no way to load CUDA on this processor; it is made for x86_64 and aarch64"
#endif

#define SYMBOL(library, name) \
    __asm__(".text\n.globl " #name "\n.hidden " #name "\n.type " #name ", %function\n" #name ":\n" JUMP(name));
#include "symbols.h"
#undef SYMBOL

static const struct {
    int library;
    const char *name;
    void **slot;
} symbols[] = {
#define SYMBOL(library, name) {library, #name, &qmambaiqa_slot_##name},
#include "symbols.h"
#undef SYMBOL
};

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
static const char *const files[LIBRARIES] = {"libcuda.so.1", "libcublas.so." TEXT(CUDA_MAJOR), "libcublasLt.so." TEXT(CUDA_MAJOR),
                                             "libcurand.so.10", "libnvrtc.so." TEXT(CUDA_MAJOR)};
static int result = 0;

static void load(void) {
    void *handles[LIBRARIES];
    for (int i = 0; i < LIBRARIES; i++) {
        handles[i] = dlopen(files[i], RTLD_NOW | RTLD_LOCAL);
        if (!handles[i]) {
            result = i + 1;
            return;
        }
    }
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *function = dlsym(handles[symbols[i].library], symbols[i].name);
        if (function) *symbols[i].slot = function;
    }
}

int qmambaiqa_load_cuda(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    return result;
}
