// The kernels for processors with AVX-512.

#include "kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

namespace flatvq {
namespace {

bool supported() { return __builtin_cpu_supports("avx512f"); }

}  // namespace
}  // namespace flatvq

// All functions below may use the instructions; the ones above may not.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f")
#endif

#include "leaf_search.h"

namespace flatvq {
namespace {

struct Avx512 {
    typedef float Floats __attribute__((vector_size(64), aligned(4)));
    typedef int32_t Ints __attribute__((vector_size(64), aligned(4)));
    static constexpr int LANES = 16, ROWS = 8, REGISTERS = 3;

    static float multiply_add(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

    static unsigned at_least(const Floats &a, const Floats &b)
    {
        // By an instruction that the compiler cannot change: GCC 12 may spill the 16 bits and reload 64.
        unsigned bits;
        asm("kmovw %1, %0" : "=r"(bits) : "k"(_mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OQ)));
        return bits;
    }
};

}  // namespace

const Kernels AVX512 = kernels_of<Avx512>("avx512", supported);

}  // namespace flatvq

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
