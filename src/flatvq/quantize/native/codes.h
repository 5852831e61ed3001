// What is searched: codes, packed for one variant of the search, and vectors.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

// A codebook [k, dim] in `count` panels, and for screening in `groups` groups, which integers.h lays out.
struct Codes {
    int64_t k, dim, count;
    float *panels, *offsets;
    int64_t groups;
    int16_t *integers;
    float *integer_offsets;
    double longest;  // the length of the longest code
};

struct Search;

struct Variant {
    const char *name;
    int rows, panel;
    int32_t (*largest)(const float *, int64_t);
    void (*look_up)(
        const float *, int64_t, int64_t, const float *, const int64_t *, float *, double *);
    void (*search)(
        const float *, int64_t, const float *, const float *, int64_t, int64_t, float *, int64_t *);
    // Where the variant screens, and zero where not: codes in a group; how a group is packed; the bytes that
    // the search needs on the way; the search.
    int group;
    void (*pack)(const float *, int64_t, const Codes &, int16_t *);
    int64_t (*room)(const Codes &);
    void (*screen)(const Search &, int64_t, int64_t, char *);
};

// Bytes of codes that are searched at once: all of them pass through a core's own cache for every few vectors.
constexpr int64_t CACHE = 1 << 19;

// Dimensions whose squares are added up in float32, before they go on in float64.
constexpr int64_t RUN = 64;

// Groups of ROWS vectors whose vectors have steps of one size, where the variant screens.
constexpr int BLOCK_GROUPS = 40;

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

// Memory from a cache line's border on, or none if there is not enough.
template <typename T> struct Array {
    T *const data;

    explicit Array(int64_t count) : data((T *)std::aligned_alloc(64, (count * sizeof(T) + 64) / 64 * 64)) {}
    Array(const Array &) = delete;
    ~Array() { std::free(data); }
};

}  // namespace
