// What candle calls of cuBLAS and cuRAND, over driver.h: products of matrices by plain loops with sums in float32.
#include "driver.h"
#include "emulator.h"

#include <random>
#include <vector>

namespace {

struct Handle {
    Stream* stream = nullptr;
};

// cudaDataType: values are read and written as float32.
enum Type { F32 = 0, F16 = 2, BF16 = 14 };

size_t bytes(int type) { return type == F32 ? 4 : 2; }

float value(const void* at, size_t i, int type) {
    switch (type) {
    case F16: return static_cast<const __half*>(at)[i];
    case BF16: return static_cast<const __nv_bfloat16*>(at)[i];
    default: return static_cast<const float*>(at)[i];
    }
}

void put(void* at, size_t i, int type, float v) {
    switch (type) {
    case F16: static_cast<__half*>(at)[i] = v; break;
    case BF16: static_cast<__nv_bfloat16*>(at)[i] = v; break;
    default: static_cast<float*>(at)[i] = v;
    }
}

struct Matrix {
    const void* at;
    int type, lead;
    bool transposed;
    long long stride;
};

// One matrix as float32, row-major, `rows` x `columns` as used; matrices are column-major in memory.
std::vector<float> load(const Matrix& m, int image, int rows, int columns) {
    std::vector<float> values(static_cast<size_t>(rows) * columns);
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) {
            const size_t i = m.transposed ? static_cast<size_t>(r) * m.lead + c : static_cast<size_t>(c) * m.lead + r;
            values[static_cast<size_t>(r) * columns + c] = value(m.at, image * m.stride + i, m.type);
        }
    return values;
}

void check(const Matrix& m, int count, int rows, int columns, const char* what) {
    const int across = m.transposed ? rows : columns, along = m.transposed ? columns : rows;
    const size_t values = (count - 1) * m.stride + static_cast<size_t>(across - 1) * m.lead + along;
    gpu::check(m.at, values * bytes(m.type), what);
}


} // namespace

API int cublasCreate_v2(Handle** handle) { return *handle = new Handle, 0; }
API int cublasDestroy_v2(Handle* handle) { return delete handle, 0; }
API int cublasSetStream_v2(Handle* handle, Stream* stream) { return handle->stream = stream, 0; }
API int cublasSetWorkspace_v2(Handle*, void* at, size_t size) { return gpu::check(at, size, "a workspace"), 0; }
API int cublasGemmStridedBatchedEx(Handle* handle, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a,
                                   int type_a, int lead_a, long long stride_a, const void* b, int type_b, int lead_b,
                                   long long stride_b, const void* beta, void* c, int type_c, int lead_c, long long stride_c,
                                   int count, int compute, int) {
    enum { INVALID = 7, UNSUPPORTED = 15, FAILED = 13, F32_COMPUTE = 68 };
    if (m <= 0 || n <= 0 || k <= 0 || lead_a < (op_a ? k : m) || lead_b < (op_b ? n : k) || lead_c < m) return INVALID;
    if (compute != F32_COMPUTE) return UNSUPPORTED; // others have factors of other types
    const float factor = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta);
    const Matrix left{a, type_a, lead_a, op_a != 0, stride_a}, right{b, type_b, lead_b, op_b != 0, stride_b};
    check(left, count, m, k, "a product");
    check(right, count, k, n, "a product");
    check({c, type_c, lead_c, false, stride_c}, count, m, n, "a result");
    const Result queued = gpu::enqueue(handle->stream, [=] {
        std::vector<float> row(n);
        for (int image = 0; image < count; image++) {
            const auto x = load(left, image, m, k), y = load(right, image, k, n);
            for (int i = 0; i < m; i++) {
                row.assign(n, 0.0f);
                for (int p = 0; p < k; p++) {
                    const float v = x[static_cast<size_t>(i) * k + p];
                    const float* from = &y[static_cast<size_t>(p) * n];
                    for (int j = 0; j < n; j++) row[j] += v * from[j];
                }
                for (int j = 0; j < n; j++) {
                    const size_t at = image * stride_c + static_cast<size_t>(j) * lead_c + i;
                    const float before = keep == 0.0f ? 0.0f : keep * value(c, at, type_c);
                    put(c, at, type_c, factor * row[j] + before);
                }
            }
        }
    });
    return queued == SUCCESS ? 0 : FAILED;
}

API int curandCreateGenerator(void** generator, int) { return *generator = new char, 0; }
API int curandDestroyGenerator(void* generator) { return delete static_cast<char*>(generator), 0; }
API int curandGenerateNormal(void*, float* at, size_t count, float mean, float deviation) {
    gpu::check(at, count * sizeof *at, "random numbers");
    return gpu::enqueue(nullptr, [=] {
        std::mt19937 random(1);
        std::normal_distribution<float> normal(mean, deviation);
        for (size_t i = 0; i < count; i++) at[i] = normal(random);
    });
}
API int curandSetPseudoRandomGeneratorSeed(void*, unsigned long long) { return 0; }
API int curandSetStream(void*, void*) { return 0; }
