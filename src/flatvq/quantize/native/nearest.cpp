// Nearest codes in one pass: a product that keeps only each vector's largest score.
//
// The nearest code of z is the one with the largest score z e - |e|^2 / 2. A score is one chain of fused
// multiply-adds, from the first dimension to the last, whatever else is searched beside it: so equal codes
// get equal scores, and neither threads nor the split into batches nor the instruction set changes a bit.
//
// Axes: n vectors, k codes, dim. A panel holds as many codes as there are sums in a row of registers, its
// dimensions one after the other; codes that fill up the last panel have a score of minus infinity.

#include <algorithm>
#include <omp.h>

#include "codes.h"
#include "margin.h"
#include "tree.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define VARIANT avx512
#define TARGET __attribute__((target("avx512f")))
#define LANES 16
#define ROWS 8
#define REGS 3
#define MULTIPLY_ADD __builtin_fmaf
#define SCREEN_TARGET __attribute__((target("avx512f,avx512bw,avx512vnni")))
#define PAIRS(sums, a, b) (Ints) _mm512_dpwssd_epi32((__m512i)(sums), (__m512i)(a), (__m512i)(b))
#define GREATER(a, b) (Floats) _mm512_max_ps((__m512)(a), (__m512)(b))
#define LESSER(a, b) (Floats) _mm512_min_ps((__m512)(a), (__m512)(b))
#define BITS(mask) _mm512_test_epi32_mask((__m512i)(mask), (__m512i)(mask))
#include "group.h"

#define VARIANT avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#define ROWS 6
#define REGS 2
#define MULTIPLY_ADD __builtin_fmaf
#define SCREEN_TARGET TARGET
#define PAIRS(sums, a, b) ((sums) + (Ints)_mm256_madd_epi16((__m256i)(a), (__m256i)(b)))
#define GREATER(a, b) (Floats) _mm256_max_ps((__m256)(a), (__m256)(b))
#define LESSER(a, b) (Floats) _mm256_min_ps((__m256)(a), (__m256)(b))
#define BITS(mask) _mm256_movemask_ps((__m256)(mask))
#include "group.h"
#endif

// Registers of 16 bytes, as ARM's processors have: there multiply-adds are fused without asking.
#define VARIANT portable
#define TARGET
#define LANES 4
#define ROWS 8
#define REGS 3
#if defined(__aarch64__)
#define MULTIPLY_ADD __builtin_fmaf
#else
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#endif
#include "group.h"

namespace {

// For each instruction set, the variant that prunes, the one that screens, and the one that does neither.
const Variant VARIANTS[] = {
#define FUNCTIONS(variant) variant::largest, variant::look_up, variant::search
#define NO_SCREEN 0, nullptr, nullptr, nullptr
#define SCREEN(variant) variant::GROUP, variant::pack_group, variant::room, variant::screen
#define NO_TREE 0, 0, nullptr, nullptr
#define TREE(variant, even) even, variant::CHUNK, variant::project, variant::search_chunk
#if defined(__x86_64__)
    {"AVX-512, pruned", 8, avx512::PANEL, FUNCTIONS(avx512), NO_SCREEN, TREE(avx512, 0.35)},
    {"AVX-512, screened", 8, avx512::PANEL, FUNCTIONS(avx512), SCREEN(avx512), NO_TREE},
    {"AVX-512", 8, avx512::PANEL, FUNCTIONS(avx512), NO_SCREEN, NO_TREE},
    {"AVX2, pruned", 6, avx2::PANEL, FUNCTIONS(avx2), NO_SCREEN, TREE(avx2, 0.5)},
    {"AVX2, screened", 6, avx2::PANEL, FUNCTIONS(avx2), SCREEN(avx2), NO_TREE},
    {"AVX2", 6, avx2::PANEL, FUNCTIONS(avx2), NO_SCREEN, NO_TREE},
#endif
    {"portable", 8, portable::PANEL, FUNCTIONS(portable), NO_SCREEN, NO_TREE},
};
constexpr int COUNT = sizeof VARIANTS / sizeof *VARIANTS;
// No variant takes more vectors at once.
constexpr int MOST_ROWS = 8;
// Multiply-adds below which threads are not worth waking.
constexpr double FEW = 1 << 18;

}  // namespace

#include "prune.h"
#include "scan.h"

extern "C" const char *flatvq_variant(int number) { return number < COUNT ? VARIANTS[number].name : nullptr; }

// The number in VARIANTS of the fastest that this processor can run, or -1: without fused multiply-adds none pays.
extern "C" int flatvq_fastest(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni") ? 0 : 2;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 3 : -1;
#elif defined(__aarch64__)
    return 0;
#else
    return -1;
#endif
}

// The number of the fastest variant that looks at every code. Screening pays for vectors and codes enough, and for
// dimensions enough that steps can tell codes apart.
static int fastest_scan(const Task &task)
{
    const int fastest = flatvq_fastest(), first = fastest + (VARIANTS[fastest].chunk > 0);
    const int64_t group = VARIANTS[first].group;
    return first + (group && (task.n < 256 || task.k < group || task.dim < 4));
}

// Write the index of the nearest code of each vector [n, dim] to `nearest` [n], and the largest absolute value
// among the vectors to `largest`, NaN or infinity if a value is; then the indices mean nothing, but are some.
// Where `chosen` [n, dim] is not null, also write the codes themselves there, and to `error` the sum of their
// squared distances, in the order of the vectors: threads change no bit of it. Vectors and codes are for that those
// that were given, before both were moved alike for the search.
// It takes the variant of this number, or for number -1 what is fastest for such vectors and codes. Returns the
// number of the variant that searched, or -1 if there was no memory for a copy of the codes [k, dim].
extern "C" int flatvq_nearest(
    int number, const float *vectors, int64_t n, int64_t dim, const float *codes, int64_t k, int threads,
    int64_t *nearest, float *largest, const float *given_vectors, const float *given_codes, float *chosen,
    double *error)
{
    const int pieces = (double)n * k * dim < FEW || threads < 1 ? 1 : threads;
    Array<double> squares(chosen ? n : 0);
    if (!squares.data)
        return -1;
    const Task task{
        vectors, n, dim, codes, k, pieces, nearest, given_vectors, given_codes, chosen, squares.data};
    int32_t most_bits = 0;
    const bool free = number < 0;
    number = free ? flatvq_fastest() : number;
    const bool tries = free ? may_pay(VARIANTS[number], task) && Patience::with(task).over() : VARIANTS[number].chunk;
    if (!tries || !prune(VARIANTS[number], task, !free, most_bits)) {
        number = free ? fastest_scan(task) : number;
        if (!scan(VARIANTS[number], task, most_bits))
            return -1;
    }
    if (chosen && most_bits < INFINITE) {
        *error = 0;
        for (int64_t row = 0; row < n; row++)
            *error += squares.data[row];
    }
    std::memcpy(largest, &most_bits, sizeof most_bits);
    return number;
}
