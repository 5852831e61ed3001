// The kernels for processors with AVX2 and fused multiply-adds.

#include "kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

namespace flatvq {
namespace {

bool supported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

}  // namespace
}  // namespace flatvq

// All functions below may use the instructions; the ones above may not.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

#include "leaf_search.h"

namespace flatvq {
namespace {

struct Avx2 {
    typedef float Floats __attribute__((vector_size(32), aligned(4)));
    typedef int32_t Ints __attribute__((vector_size(32), aligned(4)));
    static constexpr int LANES = 8, ROWS = 6, REGISTERS = 2;

    static float multiply_add(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

    static unsigned at_least(const Floats &a, const Floats &b)
    {
        return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_GE_OQ));
    }
};

}  // namespace

const Kernels AVX2 = kernels_of<Avx2>("avx2", supported);

}  // namespace flatvq

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
