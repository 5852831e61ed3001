// The parts of the search that are compiled once for each instruction set.

#ifndef FLATVQ_KERNELS_H
#define FLATVQ_KERNELS_H

#include <cstdint>

namespace flatvq {

// Rows of values that the caller owns, one after the other.
struct Matrix {
    const float *values;
    int64_t rows, columns;
};

// The codes of a codebook [k, dim], packed for one kind of search. A panel holds `width` codes, one dimension
// after the other: values [count, dim, width], offsets [count, width]. An offset is -|e|^2 / 2 of a code e, and
// minus infinity for the places in the last panel that hold no code.
struct Panels {
    int64_t dim, count, width;
    const float *values, *offsets;
};

// A place is a few coordinates of a vector or a code: see tree.h.
constexpr int AXES = 8;
// Codes in a leaf of the tree.
constexpr int LEAF = 32;

// The leaves of a tree over codes: the boxes around their places, low and high [count, AXES]; and the number of
// each code, in the order of the leaves.
struct Leaves {
    int64_t count;
    const float *low, *high;
    const int32_t *order;
    double longest;  // the length of the longest code
};

struct Kernels {
    const char *name;
    bool (*supported)();
    int rows;   // vectors that `search` takes at once
    int width;  // codes in a panel for `search`
    int chunk;  // vectors that `search_leaves` takes at most

    // The bits of the largest absolute value; those of infinity, or more, if a value is not finite.
    int32_t (*largest_bits)(const float *values, int64_t count);

    // Add values [count, dim] to `sums` [dim] and their squares to `squares` [dim]; return the largest bits.
    int32_t (*add_moments)(const float *values, int64_t count, int64_t dim, double *sums, double *squares);

    // Find the largest score among panels [first, last) for each of `rows` vectors. `scores` holds the largest
    // scores of the panels before; `nearest` changes where a score is larger.
    void (*search)(
        const float *vectors, const Panels &panels, int64_t first, int64_t last, float *scores, int64_t *nearest);

    // Copy the code of each vector [count, dim], and compute the square of its distance.
    void (*look_up)(
        const float *vectors, int64_t count, int64_t dim, const float *codes, const int64_t *nearest,
        float *code_vectors, double *squares);

    // Compute the places of values [count, dim]: their coordinates along `axes` [dim, AXES].
    void (*project)(const float *values, int64_t count, int64_t dim, const float *axes, float *places);

    // Find the nearest codes of the vectors in `count` rows, starting at leaf `start`. Panels are the leaves. If
    // `near` is not null, add to it the number of pairs of a leaf and a vector whose distance is no larger than
    // the distance to the vector's nearest code.
    void (*search_leaves)(
        const Leaves &leaves, const Panels &panels, const float *vectors, const float *places, const int64_t *rows,
        int count, int64_t start, int64_t *nearest, int64_t *near);
};

// The bits of infinity; those of NaN are above.
constexpr int32_t INFINITY_BITS = 0x7f800000;

extern const Kernels AVX512, AVX2, BASELINE;

}  // namespace flatvq

#endif
