#include "tree.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "memory.h"

namespace flatvq {

namespace {

// Codes from which the axis of a node is chosen.
constexpr int64_t AXIS_SAMPLE = 64;
// Codes below which the other threads are not started.
constexpr int64_t SINGLE_THREAD = 1 << 12;

typedef float Place __attribute__((vector_size(4 * AXES), aligned(4)));

// A place [AXES] as a register.
const Place &at(const float *place) { return *reinterpret_cast<const Place *>(place); }

// Integers in the order of the values, and then of the codes, so that no two are equal.
uint64_t key_of(float value, int32_t code)
{
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    bits ^= bits >> 31 ? UINT32_MAX : 1u << 31;
    return static_cast<uint64_t>(bits) << 32 | static_cast<uint32_t>(code);
}

// Codes from which the directions are computed.
constexpr int64_t DIRECTION_SAMPLE = 128;
// Steps of orthogonal iteration. The directions need not be exact, only orthonormal.
constexpr int STEPS = 2;

// Copy every few codes, less their mean, to `sample` [count, dim].
void take_sample(const Matrix &codes, int64_t count, float *sample)
{
    const int64_t dim = codes.columns;
    Buffer<double> mean(dim);
    std::fill_n(mean.data(), dim, 0.0);
    for (int64_t row = 0; row < count; row++) {
        std::copy_n(codes.values + codes.rows * row / count * dim, dim, sample + row * dim);
        for (int64_t d = 0; d < dim; d++)
            mean[d] += sample[row * dim + d] / static_cast<double>(count);
    }
    for (int64_t row = 0; row < count; row++)
        for (int64_t d = 0; d < dim; d++)
            sample[row * dim + d] = static_cast<float>(sample[row * dim + d] - mean[d]);
}

// The Gram-Schmidt process on `axes` [dim, AXES]. A direction that depends on the ones before it becomes zero.
void orthonormalize(float *axes, int64_t dim)
{
    Buffer<double> columns(dim * AXES);
    for (int axis = 0; axis < AXES; axis++) {
        double *const column = columns.data() + axis * dim;
        for (int64_t d = 0; d < dim; d++)
            column[d] = axes[d * AXES + axis];
        const double before = std::inner_product(column, column + dim, column, 0.0);
        for (const double *other = columns.data(); other < column; other += dim) {
            const double part = std::inner_product(column, column + dim, other, 0.0);
            for (int64_t d = 0; d < dim; d++)
                column[d] -= part * other[d];
        }
        // Below this, rounding in float64 could leave directions that are not orthogonal.
        const double after = std::inner_product(column, column + dim, column, 0.0);
        const double scale = after > 1e-10 * before ? 1 / std::sqrt(after) : 0;
        for (int64_t d = 0; d < dim; d++)
            axes[d * AXES + axis] = static_cast<float>(column[d] *= scale);
    }
}

// Compute `axes` [dim, AXES]: orthonormal directions in which codes vary most, or zero where there are fewer. Up to
// AXES dimensions they are the dimensions themselves.
void principal_axes(const Kernels &kernels, const Matrix &codes, float *axes)
{
    const int64_t dim = codes.columns, count = std::min(codes.rows, DIRECTION_SAMPLE);
    std::fill_n(axes, dim * AXES, 0.0f);
    if (dim <= AXES) {
        for (int64_t d = 0; d < dim; d++)
            axes[d * AXES + d] = 1;
        return;
    }
    // Orthogonal iteration (Golub & Van Loan, Matrix Computations, 8.2.4), from a few codes.
    Buffer<float> sample(count * dim), along(count * AXES);
    take_sample(codes, count, sample.data());
    for (int axis = 0; axis < AXES; axis++)
        for (int64_t d = 0; d < dim; d++)
            axes[d * AXES + axis] = sample[count * axis / AXES * dim + d];
    orthonormalize(axes, dim);
    for (int step = 0; step < STEPS; step++) {
        kernels.project(sample.data(), count, dim, axes, along.data());
        std::fill_n(axes, dim * AXES, 0.0f);
        for (int64_t row = 0; row < count; row++)
            for (int64_t d = 0; d < dim; d++)
                for (int axis = 0; axis < AXES; axis++)
                    axes[d * AXES + axis] += sample[row * dim + d] * along[row * AXES + axis];
        orthonormalize(axes, dim);
    }
}

}  // namespace

class Tree::Builder {
public:
    Builder(Tree &tree, const Kernels &kernels, const Matrix &codes, int threads)
        : tree(tree), k(codes.rows), places(k * AXES), keys(k)
    {
        principal_axes(kernels, codes, tree.axes.data());
        threads = k < SINGLE_THREAD ? 1 : threads;
#pragma omp parallel for num_threads(threads) if (threads > 1)
        for (int part = 0; part < threads; part++) {
            const int64_t begin = k * part / threads, end = k * (part + 1) / threads;
            kernels.project(
                codes.values + begin * codes.columns, end - begin, codes.columns, tree.axes.data(),
                places.data() + begin * AXES);
        }
        std::iota(tree.order.data(), tree.order.data() + k, 0);
#pragma omp parallel num_threads(threads) if (threads > 1)
#pragma omp single
        divide(0, tree.leaves);
#pragma omp parallel for num_threads(threads) if (threads > 1)
        for (int64_t leaf = 0; leaf < tree.leaves; leaf++)
            enclose(leaf);
    }

private:
    Tree &tree;
    const int64_t k;
    Buffer<float> places;                   // of the codes, [k, AXES]
    Buffer<uint64_t> keys;  // [k]

    // Divide the leaves [begin, end) in the middle, and each half in turn.
    void divide(int64_t begin, int64_t end)
    {
        if (end - begin < 2)
            return;
        int32_t *const order = tree.order.data();
        const int64_t middle = begin + (end - begin) / 2, cut = middle * LEAF;
        const int64_t first = begin * LEAF, last = std::min(k, end * LEAF);
        const int axis = widest_axis(first, last);
        for (int64_t i = first; i < last; i++)
            keys[i] = key_of(places[order[i] * AXES + axis], order[i]);
        std::nth_element(keys.data() + first, keys.data() + cut, keys.data() + last);
        for (int64_t i = first; i < last; i++)
            order[i] = static_cast<int32_t>(keys[i]);
        tree.border_axes[middle] = axis;
        tree.borders[middle] = places[order[cut] * AXES + axis];
#pragma omp task if ((end - begin) * LEAF >= SINGLE_THREAD / 4)
        divide(begin, middle);
        divide(middle, end);
    }

    // The axis along which the codes [first, last) of the order vary most, from a sample.
    int widest_axis(int64_t first, int64_t last) const
    {
        const int32_t *const order = tree.order.data();
        const int64_t count = std::min(last - first, AXIS_SAMPLE);
        const Place origin = at(places.data() + order[first] * AXES);
        Place sum{}, square{};
        for (int64_t i = 0; i < count; i++) {
            const Place place = at(places.data() + order[first + (last - first) * i / count] * AXES) - origin;
            sum += place;
            square += place * place;
        }
        const Place spread = square - sum * sum / static_cast<float>(count);
        int widest = 0;
        for (int axis = 1; axis < AXES; axis++)
            widest = spread[axis] > spread[widest] ? axis : widest;
        return widest;
    }

    void enclose(int64_t leaf)
    {
        Place low = Place{} + INFINITY, high = Place{} - INFINITY;
        for (int64_t i = leaf * LEAF; i < k && i < (leaf + 1) * LEAF; i++) {
            const Place place = at(places.data() + tree.order[i] * AXES);
            low = place < low ? place : low;
            high = place > high ? place : high;
        }
        std::memcpy(tree.low.data() + leaf * AXES, &low, sizeof low);
        std::memcpy(tree.high.data() + leaf * AXES, &high, sizeof high);
    }
};

Tree::Tree(const Kernels &kernels, const Matrix &codes, int threads)
    : leaves((codes.rows + LEAF - 1) / LEAF), axes(codes.columns * AXES), low(leaves * AXES),
      high(leaves * AXES), order(codes.rows), borders(leaves), border_axes(leaves)
{
    Builder(*this, kernels, codes, threads);
}

int64_t Tree::leaf_of(const float *place) const
{
    // Without branches, which would be unpredictable.
    int64_t begin = 0, count = leaves;
    while (count > 1) {
        const int64_t left = count / 2, middle = begin + left;
        const int64_t beyond = -static_cast<int64_t>(place[border_axes[middle]] >= borders[middle]);
        begin += left & beyond;
        count = left + ((count - 2 * left) & beyond);
    }
    return begin;
}

}  // namespace flatvq
