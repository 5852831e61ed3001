#include "tree_search.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "memory.h"
#include "packed_codes.h"
#include "tree.h"

namespace flatvq {

namespace {

// Lengths of codes and vectors between which no bound overflows or underflows.
constexpr float SHORTEST = 0x1p-30f, LONGEST = 0x1p40f;
// Vectors whose leaves within reach are counted.
constexpr int64_t SAMPLE = 32;
// Vectors in a block of work.
constexpr int64_t BLOCK = 64;

// The time of a search with a tree, as a multiple of the time of a search of all codes, is about the sum of
//     (BUILD + BUILD_PER_DIM * dim) / (n * dim)   to build the tree,
//     (PLACE + PLACE_PER_DIM * dim) / (k * dim)   to compute places and sort the vectors, and
//     share * (1 + VISIT / dim)                   to visit leaves, of which vectors have `share` within reach.
// `python -m benchmarks.tree_rule` fits the first two constants, and compares what the rule chooses with both methods.
constexpr double BUILD = 2000, BUILD_PER_DIM = 120, PLACE = 500, PLACE_PER_DIM = 15, VISIT = 16;
// A tree is used if that is less than 1 by a margin for what the estimate misses.
constexpr double LIMIT = 0.85;
// The most that building a tree may cost if it then turns out not to help.
constexpr double BUILD_LIMIT = 0.2;

double build_cost(double n, double dim) { return (BUILD + BUILD_PER_DIM * dim) / (n * dim); }

double place_cost(double k, double dim) { return (PLACE + PLACE_PER_DIM * dim) / (k * dim); }

double visit_cost(double share, double dim) { return share * (1 + VISIT / dim); }

// Some vectors, their places and their leaves.
struct Placed {
    Placed(const Kernels &kernels, const Matrix &vectors, const Tree &tree, int threads)
        : places(vectors.rows * AXES), leaves(vectors.rows)
    {
        const int64_t n = vectors.rows, dim = vectors.columns;
        int32_t largest = 0;
#pragma omp parallel for num_threads(threads) reduction(max : largest) if (threads > 1)
        for (int64_t begin = 0; begin < n; begin += BLOCK) {
            const int64_t count = std::min(BLOCK, n - begin);
            const float *const values = vectors.values + begin * dim;
            largest = std::max(largest, kernels.largest_bits(values, count * dim));
            kernels.project(values, count, dim, tree.axes.data(), places.data() + begin * AXES);
            for (int64_t row = begin; row < begin + count; row++)
                leaves[row] = static_cast<int32_t>(tree.leaf_of(places.data() + row * AXES));
        }
        bits = largest;
    }

    Buffer<float> places;
    Buffer<int32_t> leaves;
    int32_t bits;  // of the largest absolute value
};

// The vectors in the order of their leaves, so that those of a chunk lie close together.
void sort_by_leaf(const Placed &placed, int64_t n, int64_t leaf_count, int64_t *rows)
{
    Buffer<int64_t> starts(leaf_count + 1);
    std::fill_n(starts.data(), leaf_count + 1, 0);
    for (int64_t row = 0; row < n; row++)
        starts[placed.leaves[row] + 1]++;
    std::partial_sum(starts.data(), starts.data() + leaf_count + 1, starts.data());
    for (int64_t row = 0; row < n; row++)
        rows[starts[placed.leaves[row]]++] = row;
}

// A tree over codes, and the codes in the order of its leaves.
class TreeOfCodes {
public:
    TreeOfCodes(const Kernels &kernels, const Matrix &codes, int threads)
        : kernels(kernels), tree(kernels, codes, threads), packed(codes, LEAF, threads, tree.order.data()),
          leaves{tree.leaves, tree.low.data(), tree.high.data(), tree.order.data(), packed.longest()}
    {
    }

    void search(
        const float *vectors, const Placed &placed, const int64_t *rows, int64_t count, int64_t *nearest,
        int64_t *near) const
    {
        kernels.search_leaves(
            leaves, packed.panels(), vectors, placed.places.data(), rows, static_cast<int>(count),
            placed.leaves[rows[count / 2]], nearest, near);
    }

    // The share of leaves that a sample of vectors has within reach.
    double share_within_reach(const Matrix &vectors) const
    {
        Buffer<float> sample(SAMPLE * vectors.columns);
        int64_t rows[SAMPLE], nearest[SAMPLE], near = 0;
        for (int64_t i = 0; i < SAMPLE; i++) {
            const float *const vector = vectors.values + vectors.rows * i / SAMPLE * vectors.columns;
            std::copy_n(vector, vectors.columns, sample.data() + i * vectors.columns);
            rows[i] = i;
        }
        const Placed placed(kernels, {sample.data(), SAMPLE, vectors.columns}, tree, 1);
        search(sample.data(), placed, rows, SAMPLE, nearest, &near);
        return static_cast<double>(near) / static_cast<double>(leaves.count * SAMPLE);
    }

    const Kernels &kernels;
    const Tree tree;
    const PackedCodes packed;
    const Leaves leaves;
};

bool lengths_are_safe(const PackedCodes &packed, int32_t bits, int64_t dim)
{
    float most;
    std::memcpy(&most, &bits, sizeof most);
    return packed.longest() >= SHORTEST && packed.longest() <= LONGEST &&
           most * std::sqrt(static_cast<double>(dim)) <= LONGEST;
}

}  // namespace

bool tree_may_help(const Matrix &vectors, const Matrix &codes)
{
    const double n = static_cast<double>(vectors.rows), dim = static_cast<double>(vectors.columns);
    return codes.rows >= 8 * LEAF && codes.rows <= INT32_MAX && build_cost(n, dim) <= BUILD_LIMIT;
}

bool search_tree(
    const Kernels &kernels, const Matrix &vectors, const Matrix &codes, int threads, bool always, int64_t *nearest,
    int32_t &largest_bits)
{
    const int64_t n = vectors.rows;
    if (n == 0 || codes.rows > INT32_MAX)
        return false;
    const TreeOfCodes tree(kernels, codes, threads);
    if (!always) {
        const double dim = static_cast<double>(vectors.columns);
        const double share = tree.share_within_reach(vectors);
        const double before = build_cost(static_cast<double>(n), dim) + place_cost(static_cast<double>(codes.rows), dim);
        if (before + visit_cost(share, dim) >= LIMIT)
            return false;
    }
    const Placed placed(kernels, vectors, tree.tree, threads);
    largest_bits = placed.bits;
    if (placed.bits >= INFINITY_BITS) {
        std::fill_n(nearest, n, 0);
        return true;
    }
    if (!lengths_are_safe(tree.packed, placed.bits, vectors.columns))
        return false;
    Buffer<int64_t> rows(n);
    sort_by_leaf(placed, n, tree.leaves.count, rows.data());
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
    for (int64_t begin = 0; begin < n; begin += kernels.chunk)
        tree.search(
            vectors.values, placed, rows.data() + begin, std::min<int64_t>(kernels.chunk, n - begin), nearest,
            nullptr);
    return true;
}

}  // namespace flatvq
