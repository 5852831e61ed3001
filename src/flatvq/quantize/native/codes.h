// What is searched: codes, packed for one variant of the search, and vectors.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

// Memory from a cache line's border on, or none if there is not enough.
template <typename T> struct Array {
    T *const data;

    explicit Array(int64_t count) : data((T *)std::aligned_alloc(64, (count * sizeof(T) + 64) / 64 * 64)) {}
    Array(const Array &) = delete;
    ~Array() { std::free(data); }
};

// Dimensions up to which codes are screened, and lengths between which nothing that is computed of them on the way
// over- or underflows.
constexpr int64_t MOST_DIM = 1 << 14;
constexpr float SHORTEST = 0x1p-30f, LONGEST = 0x1p40f;

// A codebook [k, dim] in `count` panels; and in `groups` groups where the variant screens, which it lays out as it
// likes, rounded, with a number aside for each code.
struct Codes {
    int64_t k, dim, count;
    float *panels, *offsets;
    int64_t groups;
    char *rounded;
    float *aside;
    double longest, largest;  // the length of the longest code, and the largest absolute value
    float lost;               // the length of the most that rounding takes off one

    bool moderate() const { return longest >= SHORTEST && longest <= LONGEST; }
};

// A key that one more number is mixed into: Fibonacci hashing (Knuth, 6.4), whose high bits are the best.
inline uint64_t mixed(uint64_t key, uint64_t number) { return (key + number) * 0x9e3779b97f4a7c15; }

struct Search;
struct Tree;

struct Variant {
    const char *name;
    bool (*runs)();  // whether this processor can run it, and it pays
    int rows, panel;
    int32_t (*largest)(const float *, int64_t);
    void (*look_up)(
        const float *, int64_t, int64_t, const float *, const int64_t *, float *, double *);
    void (*search)(
        const float *, int64_t, const float *, const float *, int64_t, int64_t, float *, int64_t *);
    // Where the variant screens, and zero where not: whether that pays for so many vectors, codes and dimensions; the
    // share of vectors that it may leave to a search in floats before the next variant takes less; codes in a group;
    // the bytes that a code takes, rounded; how a group is packed, which returns the square of the most that rounding
    // takes off one; the bytes that the search needs on the way; the search, which returns for how many vectors it had
    // to compute all scores in floats.
    bool (*pays)(int64_t, int64_t, int64_t);
    double most_left;
    int group;
    int64_t (*bytes)(int64_t);
    float (*pack)(const float *, int64_t, const Codes &);
    int64_t (*room)(const Codes &);
    int64_t (*screen)(const Search &, int64_t, int64_t, char *);
    // How much effort (prune.h) pruning may take to be quicker than this variant.
    double even;
    // Where the variant prunes, and zero where not: vectors in a chunk; the places of values; the search of a chunk.
    int chunk;
    void (*project)(const float *, int64_t, int64_t, const float *, float *);
    int64_t (*search_chunk)(
        const Tree &, const Codes &, const float *, const float *, const int64_t *, int, bool, int64_t *);
};

// What a caller asks for: see flatvq_nearest.
struct Task {
    const float *vectors;
    int64_t n, dim;
    const float *codes;
    int64_t k;
    int pieces;  // that the work is divided into
    int64_t *nearest;
    const float *given_vectors, *given_codes;
    float *chosen;
    double *squares;
    // What the codes are recognized by, and whether they seem to have been searched before.
    uint64_t mark;
    bool again;

    void look_up(const Variant &variant, int64_t begin, int64_t end) const
    {
        if (chosen)
            variant.look_up(
                given_vectors + begin * dim, end - begin, dim, given_codes, nearest + begin, chosen + begin * dim,
                squares + begin);
    }
};

// The bits of infinity; those of NaN are above.
constexpr int32_t INFINITE = 0x7f800000;

// Bytes of codes that are searched at once: all of them pass through a core's own cache for every few vectors.
constexpr int64_t CACHE = 1 << 19;

// Dimensions whose squares are added up in float32, before they go on in float64.
constexpr int64_t RUN = 64;

// Groups of ROWS vectors whose vectors have steps of one size, where the variant screens: many, for all offsets are
// rounded anew for each such block.
constexpr int BLOCK_GROUPS = 128;

struct Search {
    const Variant &variant;
    const Codes &codes;
    const float *vectors;
    float *scores;
    int64_t *nearest;

    // Search for vectors [begin, end), without screening.
    void plain(int64_t begin, int64_t end) const
    {
        const int64_t dim = codes.dim, width = variant.panel;
        const int64_t fit = CACHE / (int64_t)(dim * width * sizeof(float)), part = fit < 1 ? 1 : fit;
        for (int64_t first = 0; first < codes.count; first += part) {
            const int64_t size = codes.count - first < part ? codes.count - first : part;
            const float *panels = codes.panels + first * dim * width, *offsets = codes.offsets + first * width;
            for (int64_t row = begin; row < end; row += variant.rows)
                variant.search(
                    vectors + row * dim, dim, panels, offsets, size, first, scores + row, nearest + row);
        }
    }
};

// Pack the codes of a task in panels of `width`, a multiple of 4, in their own order or the one that is given, and find
// the longest one and the largest value.
inline void pack(const Task &task, int64_t width, const int32_t *order, Codes &codes)
{
    // Several at once, for a chain of sums mostly waits; the last one fills up what is left.
    constexpr int AT_ONCE = 4;
    const int64_t dim = codes.dim, blocks = (codes.k + AT_ONCE - 1) / AT_ONCE;
    float lowest = 0, largest = 0;
#pragma omp parallel for num_threads(task.pieces) reduction(min : lowest) reduction(max : largest) if (task.pieces > 1)
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t first = block * AT_ONCE;
        const float *code[AT_ONCE];
        double square[AT_ONCE] = {};
        float most[AT_ONCE] = {};
        for (int i = 0; i < AT_ONCE; i++) {
            const int64_t place = first + i < codes.k ? first + i : codes.k - 1;
            code[i] = task.codes + (order ? order[place] : place) * dim;
        }
        float *column = codes.panels + first / width * width * dim + first % width;
        for (int64_t d = 0; d < dim; d++, column += width)
#pragma GCC unroll 4
            for (int i = 0; i < AT_ONCE; i++) {
                const float value = code[i][d];
                column[i] = value;
                square[i] += (double)value * value;
                most[i] = most[i] < std::abs(value) ? std::abs(value) : most[i];
            }
        for (int i = 0; i < AT_ONCE; i++) {
            codes.offsets[first + i] = (float)(square[i] / -2);
            lowest = codes.offsets[first + i] < lowest ? codes.offsets[first + i] : lowest;
            largest = largest < most[i] ? most[i] : largest;
        }
    }
    // What fills up the last panel: zeros, with a score below all others.
    for (int64_t place = codes.k; place < codes.count * width; place++) {
        codes.offsets[place] = -INFINITY;
        for (int64_t d = 0; d < dim; d++)
            codes.panels[(codes.count - 1) * width * dim + d * width + place % width] = 0;
    }
    codes.longest = std::sqrt(-2.0 * lowest);
    codes.largest = largest;
}

}  // namespace
