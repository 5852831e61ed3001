// The kernels for any processor, with registers of 16 bytes.

#include "leaf_search.h"

namespace flatvq {
namespace {

struct Baseline {
    typedef float Floats __attribute__((vector_size(16), aligned(4)));
    typedef int32_t Ints __attribute__((vector_size(16), aligned(4)));
    static constexpr int LANES = 4, ROWS = 8, REGISTERS = 3;

    static float multiply_add(float a, float b, float c)
    {
#if defined(__aarch64__)
        return __builtin_fmaf(a, b, c);  // as the compiler fuses the registers' sums
#else
        return a * b + c;
#endif
    }

    static unsigned at_least(const Floats &a, const Floats &b)
    {
        const Ints bits = (a >= b) & Ints{1, 2, 4, 8};
        return (unsigned)(bits[0] | bits[1] | bits[2] | bits[3]);
    }
};

// On x86-64 it serves the tests only: without fused multiply-adds FAISS is faster.
bool supported()
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return true;
#endif
}

}  // namespace

const Kernels BASELINE = kernels_of<Baseline>("baseline", supported);

}  // namespace flatvq
