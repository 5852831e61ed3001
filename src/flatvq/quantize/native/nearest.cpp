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

// Those that screen come before the same ones that do not.
const Variant VARIANTS[] = {
#define FUNCTIONS(variant) variant::largest, variant::look_up, variant::search
#define SCREENED(variant) variant::GROUP, variant::pack_group, variant::room, variant::screen
#define PLAIN 0, nullptr, nullptr, nullptr
#if defined(__x86_64__)
    {"AVX-512, screened", 8, avx512::PANEL, FUNCTIONS(avx512), SCREENED(avx512)},
    {"AVX-512", 8, avx512::PANEL, FUNCTIONS(avx512), PLAIN},
    {"AVX2, screened", 6, avx2::PANEL, FUNCTIONS(avx2), SCREENED(avx2)},
    {"AVX2", 6, avx2::PANEL, FUNCTIONS(avx2), PLAIN},
#endif
    {"portable", 8, portable::PANEL, FUNCTIONS(portable), PLAIN},
};
constexpr int COUNT = sizeof VARIANTS / sizeof *VARIANTS;
// No variant takes more vectors at once.
constexpr int MOST_ROWS = 8;
// The bits of infinity; those of NaN are above.
constexpr int32_t INFINITE = 0x7f800000;
// Multiply-adds below which threads are not worth waking.
constexpr double FEW = 1 << 18;

// Pack codes [begin, end), and return the lowest offset.
float pack(const float *vectors, int64_t begin, int64_t end, int64_t width, const Codes &codes)
{
    float lowest = 0;
    for (int64_t code = begin; code < end; code++) {
        float *column = codes.panels + code / width * width * codes.dim + code % width;
        double square = 0;
        for (int64_t d = 0; d < codes.dim; d++) {
            const float value = vectors[code * codes.dim + d];
            column[d * width] = value;
            square += (double)value * value;
        }
        codes.offsets[code] = (float)(square / -2);
        lowest = codes.offsets[code] < lowest ? codes.offsets[code] : lowest;
    }
    return lowest;
}

}  // namespace

extern "C" const char *flatvq_variant(int number) { return number < COUNT ? VARIANTS[number].name : nullptr; }

// The number of the fastest variant that this processor can run, or -1: without fused multiply-adds none pays.
extern "C" int flatvq_fastest(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni") ? 0 : 1;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 2 : -1;
#elif defined(__aarch64__)
    return 0;
#else
    return -1;
#endif
}

// The number of the variant that flatvq_nearest takes if it is asked for number -1: the fastest. Screening pays
// for vectors and codes enough, and for dimensions enough that steps can tell codes apart.
static int choose(int64_t n, int64_t dim, int64_t k)
{
    const int fastest = flatvq_fastest();
    const int64_t group = VARIANTS[fastest].group;
    return fastest + (group && (n < 256 || k < group || dim < 4));
}

// Write the index of the nearest code of each vector [n, dim] to `nearest` [n], and the largest absolute value
// among the vectors to `largest`, NaN or infinity if a value is; then the indices mean nothing, but are some.
// Where `chosen` [n, dim] is not null, also write the codes themselves there, and to `error` the sum of their
// squared distances, in the order of the vectors: threads change no bit of it. Vectors and codes are for that those
// that were given, before both were moved alike for the search.
// Returns 0 if all went well, 1 if there was no memory for a copy of the codes [k, dim].
extern "C" int flatvq_nearest(
    int number, const float *vectors, int64_t n, int64_t dim, const float *codes, int64_t k, int threads,
    int64_t *nearest, float *largest, const float *given_vectors, const float *given_codes, float *chosen,
    double *error)
{
    const Variant &variant = VARIANTS[number < 0 ? choose(n, dim, k) : number];
    const int64_t width = variant.panel, count = (k + width - 1) / width;
    const bool screens = variant.group && dim <= MOST_DIM;
    const int64_t groups = screens ? (k + variant.group - 1) / variant.group : 0;
    const int64_t size = groups * variant.group;
    const int64_t pieces = (double)n * k * dim < FEW || threads < 1 ? 1 : threads;
    // The last rows of vectors that do not fill a group are searched in a group of their own.
    const int64_t whole = n - n % variant.rows, rest = n - whole, rows = whole / variant.rows;

    Array<float> panels(count * width * dim), offsets(count * width), integer_offsets(size);
    Array<int16_t> integers(size * (dim + dim % 2));
    Array<float> scores(whole + variant.rows), last(variant.rows * dim);
    Codes packed{
        k, dim, count, panels.data, offsets.data, groups, integers.data, integer_offsets.data, 0};
    const int64_t room = screens ? variant.room(packed) : 0;
    Array<char> rooms(room * pieces);
    Array<double> squares(chosen ? n : 0);
    int64_t found[MOST_ROWS] = {};
    if (!panels.data || !offsets.data || !integers.data || !integer_offsets.data || !scores.data ||
        !last.data || !rooms.data || !squares.data)
        return 1;

    float lowest = 0;
#pragma omp parallel for num_threads(pieces) reduction(min : lowest) if (pieces > 1)
    for (int64_t piece = 0; piece < pieces; piece++) {
        const float here = pack(codes, k * piece / pieces, k * (piece + 1) / pieces, width, packed);
        lowest = here < lowest ? here : lowest;
    }
    // What fills up the last panel: zeros, with a score below all others.
    for (int64_t code = k; code < count * width; code++) {
        offsets.data[code] = -INFINITY;
        for (int64_t d = 0; d < dim; d++)
            panels.data[(count - 1) * width * dim + d * width + code % width] = 0;
    }
    for (int64_t row = 0; row < whole + variant.rows; row++)
        scores.data[row] = -INFINITY;
    packed.longest = std::sqrt(-2.0 * lowest);
    if (packed.longest >= SHORTEST && packed.longest <= LONGEST)
#pragma omp parallel for num_threads(pieces) if (pieces > 1)
        for (int64_t piece = 0; piece < pieces; piece++)
            for (int64_t group = groups * piece / pieces; group < groups * (piece + 1) / pieces; group++)
                variant.pack(codes, group, packed, (int16_t *)(rooms.data + piece * room));

    const Search search{variant, packed, vectors, scores.data, nearest};
    const auto look_up = [&](int64_t begin, int64_t end) {
        if (chosen)
            variant.look_up(
                given_vectors + begin * dim, end - begin, dim, given_codes, nearest + begin,
                chosen + begin * dim, squares.data + begin);
    };
    const int32_t rest_bits = variant.largest(vectors + whole * dim, rest * dim);
    int32_t most_bits = rest_bits;
    // Several parts to a thread, for cores may differ in what else they do; but each of a block or more.
    const int64_t blocks = rows / BLOCK_GROUPS, most = pieces > 1 ? 8 * pieces : 1;
    const int64_t parts = blocks < pieces ? pieces : blocks < most ? blocks : most;
#pragma omp parallel for num_threads(pieces) schedule(dynamic) reduction(max : most_bits) if (pieces > 1)
    for (int64_t part = 0; part < parts; part++) {
        const int64_t begin = rows * part / parts * variant.rows, end = rows * (part + 1) / parts * variant.rows;
        // Now, for then the search finds the vectors in the caches.
        const int32_t bits = variant.largest(vectors + begin * dim, (end - begin) * dim);
        most_bits = most_bits < bits ? bits : most_bits;
        std::fill(nearest + begin, nearest + end, 0);
        if (bits >= INFINITE)
            continue;
        if (screens)
            variant.screen(search, begin, end, rooms.data + omp_get_thread_num() * room);
        else
            search.plain(begin, end);
        look_up(begin, end);
    }
    if (rest && rest_bits < INFINITE) {
        std::memset(last.data, 0, variant.rows * dim * sizeof(float));
        std::memcpy(last.data, vectors + whole * dim, rest * dim * sizeof(float));
        const Search tail{variant, packed, last.data, scores.data + whole, found};
        if (screens)
            variant.screen(tail, 0, variant.rows, rooms.data);
        else
            tail.plain(0, variant.rows);
    }
    std::copy(found, found + rest, nearest + whole);
    look_up(whole, n);
    if (chosen && most_bits < INFINITE) {
        *error = 0;
        for (int64_t row = 0; row < n; row++)
            *error += squares.data[row];
    }
    std::memcpy(largest, &most_bits, sizeof most_bits);
    return 0;
}
