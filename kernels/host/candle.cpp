// Candle's kernels by name, from its crate's sources, whose folder is among the include paths. candle_names.h, a line
// ENTRY(name) for each, is made from this file's preprocessed text (driver.sh).
#define __CUDA_ARCH__ 800
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0
#define _USE_MATH_DEFINES
#include "candle/cuda_fp8.h"
#include "registry.h"
#include <cuda/std/limits>

// The sources are made to be compiled one by one.
namespace affine {
#include "affine.cu"
}
namespace binary {
#include "binary.cu"
}
namespace cast {
#include "cast.cu"
}
namespace fill {
#include "fill.cu"
}
namespace indexing {
#include "indexing.cu"
}
namespace reduce {
#include "reduce.cu"
}
namespace ternary {
#include "ternary.cu"
}
namespace unary {
#include "unary.cu"
}

#ifndef NAMES_ALONE
using namespace affine;
using namespace binary;
using namespace cast;
using namespace fill;
using namespace indexing;
using namespace reduce;
using namespace ternary;
using namespace unary;

std::map<std::string, PackedKernel> candle_kernels() {
#define ENTRY(name) {#name, packed(name)},
    return {
#include "candle_names.h"
    };
}
#endif
