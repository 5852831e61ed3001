// Nearest codes in one pass: a product that keeps only each vector's largest score.
//
// The nearest code of z is the one with the largest score z e - |e|^2 / 2. A score is one chain of fused
// multiply-adds, from the first dimension to the last, whatever else is searched beside it: so equal codes
// get equal scores, and neither threads nor the split into batches nor the instruction set changes a bit.
//
// Axes: n vectors, k codes, dim. A panel holds as many codes as there are sums in a row of registers, its
// dimensions one after the other; codes that fill up the last panel have a score of minus infinity.

#include <omp.h>

#include "codes.h"
#include "patience.h"
#include "tree.h"

#if defined(__x86_64__)
#include <immintrin.h>
// Compilers from 2021 on know tiles.
#if defined(__linux__) && __has_include(<amxbf16intrin.h>)
#define TILES
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

// The bits of a mask, by an instruction that the compiler does not look into: where it runs out of registers, GCC 12 may
// store the 16 bits and load 64.
static inline __attribute__((always_inline, target("avx512f"))) unsigned bits_of(__mmask16 mask)
{
    unsigned bits;
    asm("kmovw %1, %0" : "=r"(bits) : "k"(mask));
    return bits;
}

#define VARIANT avx512
#define TARGET __attribute__((target("avx512f")))
#define LANES 16
#define ROWS 8
#define REGS 3
#define MULTIPLY_ADD __builtin_fmaf
#define SCREEN_TARGET __attribute__((target("avx512f,avx512bw,avx512vnni")))
#define PAIRS(sums, a, b) (Ints) _mm512_dpwssd_epi32((__m512i)(sums), (__m512i)(a), (__m512i)(b))
#define QUADS(sums, a, b) (Ints) _mm512_dpbusd_epi32((__m512i)(sums), (__m512i)(a), (__m512i)(b))
#define GREATER(a, b) (Floats) _mm512_max_ps((__m512)(a), (__m512)(b))
#define LESSER(a, b) (Floats) _mm512_min_ps((__m512)(a), (__m512)(b))
#define SQUARE_ROOT(a) (Floats) _mm512_sqrt_ps((__m512)(a))
#define FIRST(values, count) (Floats) _mm512_maskz_loadu_ps((__mmask16)((1u << (count)) - 1), values)
#define AT_LEAST(a, b) bits_of(_mm512_cmp_ps_mask((__m512)(a), (__m512)(b), _CMP_GE_OQ))
#define INTS_AT_LEAST(a, b) bits_of(_mm512_cmpge_epi32_mask((__m512i)(a), (__m512i)(b)))
#ifdef TILES
#define TILE_TARGET __attribute__((target("avx512f,avx512bw,avx512vnni,amx-tile,amx-bf16")))
#endif
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
#define SQUARE_ROOT(a) (Floats) _mm256_sqrt_ps((__m256)(a))
#define FIRST(values, count)                                                                                         \
    (Floats) _mm256_maskload_ps(                                                                                     \
        values, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)))
#define AT_LEAST(a, b) _mm256_movemask_ps(_mm256_cmp_ps((__m256)(a), (__m256)(b), _CMP_GE_OQ))
#define INTS_AT_LEAST(a, b) _mm256_movemask_ps((__m256)((Ints)(a) >= (Ints)(b)))
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

// What processors can run.
#if defined(__x86_64__)
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() { return __builtin_cpu_supports("avx512f"); }
bool has_vnni() { return has_avx512() && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni"); }
// Beside those that have fused multiply-adds it is there for tests; without them it does not pay.
bool has_portable() { return has_avx2(); }
#elif defined(__aarch64__)
bool has_portable() { return true; }
#else
bool has_portable() { return false; }
#endif

#ifdef TILES
// Linux lets a process use tiles when it has asked (Documentation/arch/x86/xstate.rst).
bool ask_for_tiles()
{
    constexpr int REQUEST = 0x1023, TILE_DATA = 18;
    unsigned a, b, c, d;
    const bool known = __get_cpuid_count(7, 0, &a, &b, &c, &d) && d >> 22 & 1 && d >> 24 & 1;
    return known && has_vnni() && !syscall(SYS_arch_prctl, REQUEST, TILE_DATA);
}

bool has_tiles()
{
    static const bool granted = ask_for_tiles();
    return granted;
}
#endif

// When screening pays: for vectors and codes enough, and for dimensions enough that roundings can tell codes apart.
// What a tile takes hardly depends on dimensions, up to 32; integers of 8 bits need the more codes the more there are.
#ifdef TILES
bool tiles_pay(int64_t n, int64_t k, int64_t dim) { return n >= 256 && k >= 256 && dim >= (k < 2048 ? 8 : 12); }
#endif
#if defined(__x86_64__)
bool bytes_pay(int64_t n, int64_t k, int64_t dim) { return n >= 256 && k >= 1024 && k >= 32 * dim && dim >= 4; }
bool shorts_pay(int64_t n, int64_t k, int64_t dim) { return n >= 256 && k >= 256 && dim >= 4; }
bool shorts_pay_beside_avx2(int64_t n, int64_t k, int64_t dim) { return n >= 256 && k >= 128 && dim >= 4; }
#endif

// For each instruction set, the variant that prunes, those that screen, the coarsest first, and the one that does
// neither.
const Variant VARIANTS[] = {
#define AVX512 8, avx512::PANEL, avx512::largest, avx512::look_up, avx512::search
#define AVX2 6, avx2::PANEL, avx2::largest, avx2::look_up, avx2::search
#define PORTABLE 8, portable::PANEL, portable::largest, portable::look_up, portable::search
#define NO_SCREEN nullptr, 0, 0, nullptr, nullptr, nullptr, nullptr
#define SCREEN(variant, number)                                                                                      \
    variant::GROUP, variant::bytes<number>, variant::pack_group<number>, variant::room<number>, variant::screen<number>
#define TILED(variant)                                                                                               \
    variant::PAIR *variant::TILE, variant::tile_bytes, variant::pack_tiles, variant::tile_room, variant::screen_tiles
#define NO_TREE 0, nullptr, nullptr
#define TREE(variant) variant::CHUNK, variant::project, variant::search_chunk
#if defined(__x86_64__)
    {"AVX-512, pruned", has_avx512, AVX512, NO_SCREEN, 0, TREE(avx512)},
#ifdef TILES
    {"AVX-512, tiled", has_tiles, AVX512, tiles_pay, 0.125, TILED(avx512), 0.14, NO_TREE},
#endif
    {"AVX-512, screened in bytes", has_vnni, AVX512, bytes_pay, 0.125, SCREEN(avx512, int8_t), 0.2, NO_TREE},
    {"AVX-512, screened", has_vnni, AVX512, shorts_pay, 1, SCREEN(avx512, int16_t), 0.35, NO_TREE},
    {"AVX-512", has_avx512, AVX512, NO_SCREEN, 0.7, NO_TREE},
    {"AVX2, pruned", has_avx2, AVX2, NO_SCREEN, 0, TREE(avx2)},
    {"AVX2, screened", has_avx2, AVX2, shorts_pay_beside_avx2, 1, SCREEN(avx2, int16_t), 0.5, NO_TREE},
    {"AVX2", has_avx2, AVX2, NO_SCREEN, 0.7, NO_TREE},
#endif
    {"portable", has_portable, PORTABLE, NO_SCREEN, 0.7, NO_TREE},
};
constexpr int COUNT = sizeof VARIANTS / sizeof *VARIANTS;
// No variant takes more vectors at once.
constexpr int MOST_ROWS = 8;
// Multiply-adds below which threads are not worth waking.
constexpr double FEW = 1 << 18;

}  // namespace

#include "prepared.h"
#include "prune.h"
#include "scan.h"

extern "C" const char *flatvq_variant(int number) { return number < COUNT ? VARIANTS[number].name : nullptr; }

// Bytes of codebooks that are kept from one search to the next.
extern "C" int64_t flatvq_kept() { return Shelf::only().bytes(); }

extern "C" int flatvq_runs(int number) { return VARIANTS[number].runs(); }

// The number of the fastest variant, `first` or one after it, that looks at every code, and has not failed of late.
static int next_scan(const Task &task, int first, bool count)
{
    // Codes that come again are packed once: screening pays for an eighth as many vectors.
    const int64_t n = task.again ? 8 * task.n : task.n;
    for (;; first++) {
        const Variant &variant = VARIANTS[first];
        if (variant.chunk || !variant.runs() || (variant.group && !variant.pays(n, task.k, task.dim)))
            continue;
        Patience &patience = Patience::with(task, first);
        if (!variant.group || patience.over())
            return first;
        if (count)
            patience.pass();
    }
}

// Search with what is fastest for such vectors and codes, and return its number, or -1 if none runs: else as scan.
static int search_fastest(const Task &task, int32_t &most_bits)
{
    int first = 0;
    while (first < COUNT && !VARIANTS[first].runs())
        first++;
    if (first == COUNT)
        return -1;
    const double even = VARIANTS[next_scan(task, first, false)].even;
    if (may_prune(VARIANTS[first], task, even)) {
        Patience &patience = Patience::with(task, first);
        if (!patience.over())
            patience.pass();
        else if (prune(VARIANTS[first], task, even, &patience, most_bits))
            return first;
    }
    const int number = next_scan(task, first, true);
    const int64_t without = scan(VARIANTS[number], task, most_bits);
    if (without < 0)
        return -1;
    if (VARIANTS[number].group)
        Patience::with(task, number).note((double)without <= VARIANTS[number].most_left * (double)task.n);
    return number;
}

// The variant for the same instructions that neither prunes nor screens.
static const Variant &plain_beside(int number)
{
    while (VARIANTS[number].chunk || VARIANTS[number].group)
        number++;
    return VARIANTS[number];
}

// Write the index of the nearest code of each vector [n, dim] to `nearest` [n], and the largest absolute value
// among the vectors to `largest`, NaN or infinity if a value is; then the indices mean nothing, but are some.
// Where `chosen` [n, dim] is not null, also write the codes themselves there, and to `error` the mean of (z - e)^2 over
// all elements, added up in the order of the vectors: threads change no bit of it. Vectors and codes are for that those
// that were given, before both were moved alike for the search.
// It takes the variant of this number, or for number -1 what is fastest for such vectors and codes. Returns the
// number of the variant that searched, or -1 if there was no memory for a copy of the codes [k, dim].
extern "C" int flatvq_nearest(
    int number, const float *vectors, int64_t n, int64_t dim, const float *codes, int64_t k, int threads,
    int64_t *nearest, float *largest, const float *given_vectors, const float *given_codes, float *chosen,
    float *error)
{
    const int pieces = (double)n * k * dim < FEW || threads < 1 ? 1 : threads;
    Array<double> squares(chosen ? n : 0);
    if (!squares.data)
        return -1;
    Task task{
        vectors, n, dim, codes, k, pieces, nearest, given_vectors, given_codes, chosen, squares.data, 0, false};
    Shelf::only().recognize(task);
    int32_t most_bits = 0;
    if (number < 0)
        number = search_fastest(task, most_bits);
    else if (!VARIANTS[number].chunk)
        number = scan(VARIANTS[number], task, most_bits) < 0 ? -1 : number;
    else if (!prune(VARIANTS[number], task, 0, nullptr, most_bits))
        number = scan(plain_beside(number), task, most_bits) < 0 ? -1 : number;
    if (number < 0)
        return -1;
    if (chosen) {
        const double sum = std::accumulate(squares.data, squares.data + n, 0.0);
        *error = most_bits < INFINITE ? (float)(sum / (double)(n * dim)) : NAN;
    }
    std::memcpy(largest, &most_bits, sizeof most_bits);
    return number;
}
