// A k-d tree over codes (Bentley 1975): which of them lie together, and in what box.
//
// A leaf holds LEAF codes. The leaves stand in a row, and a node is a run of them that is divided in the middle; what
// divides it is kept under the number of its middle leaf, which is no other node's. So leaves whose numbers have
// their leading bits in common lie together.
//
// Boxes have AXES sides. A place is a few coordinates of a vector or a code: those along the directions in which codes
// differ most, for a trained codebook hardly leaves these, however many dimensions it has; or the values themselves,
// where these are few. The directions are orthonormal, so that two places are no further apart than what they are
// places of (Bessel's inequality).

#include <numeric>

namespace {

constexpr int AXES = 8, LEAF = 32;
// Codes by which the directions are chosen, and those by which the axis is that a node is divided along.
constexpr int64_t SAMPLE = 128, FEW_CODES = 64;
// Numbers of codes below which threads are not worth waking.
constexpr int64_t SMALL = 1 << 12;

typedef float Place __attribute__((vector_size(4 * AXES), aligned(4)));

struct Tree {
    const int64_t k, dim, leaves;
    // The directions [dim, AXES]; the boxes [leaves, AXES]; and the codes of one leaf after the other [k].
    Array<float> axes, low, high;
    Array<int32_t> order;
    // The lowest coordinate beyond the middle of a node [leaves], and its axis.
    Array<float> borders;
    Array<int32_t> across;

    Tree(int64_t k, int64_t dim)
        : k(k), dim(dim), leaves((k + LEAF - 1) / LEAF), axes(dim * AXES), low(leaves * AXES), high(leaves * AXES),
          order(k), borders(leaves), across(leaves)
    {
    }

    bool there() const
    {
        return axes.data && low.data && high.data && order.data && borders.data && across.data;
    }

    // Numbers of 4 bytes that it consists of.
    int64_t numbers() const { return dim * AXES + 2 * leaves * (AXES + 1) + k; }

    // The leaf on whose side of all borders a place lies. Without branches, which could not be foreseen.
    int64_t leaf(const float *place) const
    {
        int64_t begin = 0, count = leaves;
        while (count > 1) {
            const int64_t left = count / 2, middle = begin + left;
            const int64_t beyond = -(int64_t)(place[across.data[middle]] >= borders.data[middle]);
            begin += left & beyond;
            count = left + ((count - 2 * left) & beyond);
        }
        return begin;
    }
};

// Grows a tree over codes [k, dim].
class Growth {
public:
    Growth(const Variant &variant, Tree &tree)
        : variant(variant), tree(tree), k(tree.k), dim(tree.dim), places(k * AXES), keys(k), between(k), above(k)
    {
    }

    // False if there is no memory for it.
    bool over(const float *codes, int pieces)
    {
        if (!tree.there() || !places.data || !keys.data || !between.data || !above.data || !choose_axes(codes))
            return false;
        const int threads = k < SMALL ? 1 : pieces;
#pragma omp parallel for num_threads(threads) if (threads > 1)
        for (int piece = 0; piece < threads; piece++) {
            const int64_t begin = k * piece / threads, end = k * (piece + 1) / threads;
            variant.project(codes + begin * dim, end - begin, dim, tree.axes.data, places.data + begin * AXES);
        }
        std::iota(tree.order.data, tree.order.data + k, 0);
#pragma omp parallel num_threads(threads) if (threads > 1)
#pragma omp single
        divide(0, tree.leaves);
#pragma omp parallel for num_threads(threads) if (threads > 1)
        for (int64_t leaf = 0; leaf < tree.leaves; leaf++)
            enclose(leaf);
        return true;
    }

private:
    const Variant &variant;
    Tree &tree;
    const int64_t k, dim;
    Array<float> places;                   // of the codes, [k, AXES]
    Array<uint64_t> keys, between, above;  // [k], on the way

    // Two steps of orthogonal iteration (Golub & Van Loan, Matrix Computations, 8.2.4) from the dimensions that vary
    // most, on a sample. Directions need not be the best, only orthonormal.
    bool choose_axes(const float *codes)
    {
        std::fill(tree.axes.data, tree.axes.data + dim * AXES, 0.0f);
        if (dim <= AXES) {
            for (int64_t d = 0; d < dim; d++)
                tree.axes.data[d * AXES + d] = 1;
            return true;
        }
        const int64_t count = std::min(k, SAMPLE);
        Array<float> sample(count * dim), along(count * AXES);
        Array<double> mean(dim), square(dim), columns(dim * AXES);
        Array<int64_t> widest(dim);
        if (!sample.data || !along.data || !mean.data || !square.data || !columns.data || !widest.data)
            return false;
        for (int64_t d = 0; d < dim; d++)
            mean.data[d] = square.data[d] = 0;
        for (int64_t row = 0; row < count; row++) {
            std::copy_n(codes + k * row / count * dim, dim, sample.data + row * dim);
            for (int64_t d = 0; d < dim; d++)
                mean.data[d] += sample.data[row * dim + d] / (double)count;
        }
        for (int64_t row = 0; row < count; row++)
            for (int64_t d = 0; d < dim; d++) {
                const double value = sample.data[row * dim + d] - mean.data[d];
                sample.data[row * dim + d] = (float)value;
                square.data[d] += value * value;
            }
        std::iota(widest.data, widest.data + dim, 0);
        std::partial_sort(widest.data, widest.data + AXES, widest.data + dim, [&](int64_t a, int64_t b) {
            return square.data[a] > square.data[b];
        });
        for (int axis = 0; axis < AXES; axis++)
            tree.axes.data[widest.data[axis] * AXES + axis] = 1;
        for (int step = 0; step < 2; step++) {
            variant.project(sample.data, count, dim, tree.axes.data, along.data);
            std::fill(tree.axes.data, tree.axes.data + dim * AXES, 0.0f);
            for (int64_t row = 0; row < count; row++)
                for (int64_t d = 0; d < dim; d++)
                    *(Place *)(tree.axes.data + d * AXES) +=
                        sample.data[row * dim + d] * *(const Place *)(along.data + row * AXES);
            orthonormalize(columns.data);
        }
        return true;
    }

    // Gram and Schmidt's method, twice for its roundings. A direction of which the ones before it leave nothing
    // becomes zero, and nothing is ever apart along it.
    void orthonormalize(double *columns)
    {
        for (int axis = 0; axis < AXES; axis++) {
            double *column = columns + axis * dim;
            for (int64_t d = 0; d < dim; d++)
                column[d] = tree.axes.data[d * AXES + axis];
            const double before = std::inner_product(column, column + dim, column, 0.0);
            for (int again = 0; again < 2; again++)
                for (const double *other = columns; other < column; other += dim) {
                    const double part = std::inner_product(column, column + dim, other, 0.0);
                    for (int64_t d = 0; d < dim; d++)
                        column[d] -= part * other[d];
                }
            const double after = std::inner_product(column, column + dim, column, 0.0);
            const double scale = after > 1e-10 * before ? 1 / std::sqrt(after) : 0;
            for (int64_t d = 0; d < dim; d++)
                tree.axes.data[d * AXES + axis] = (float)(column[d] *= scale);
        }
    }

    // Divide the leaves [begin, end) in the middle, and each half in turn.
    void divide(int64_t begin, int64_t end)
    {
        if (end - begin < 2)
            return;
        const int64_t middle = begin + (end - begin) / 2, cut = middle * LEAF;
        const int64_t first = begin * LEAF, last = std::min(k, end * LEAF);
        const int axis = widest_axis(first, last);
        for (int64_t i = first; i < last; i++) {
            // Integers in the order of the values, and then of the codes, so that no two are equal.
            uint32_t bits;
            std::memcpy(&bits, places.data + tree.order.data[i] * AXES + axis, sizeof bits);
            bits ^= bits >> 31 ? UINT32_MAX : 1u << 31;
            keys.data[i] = (uint64_t)bits << 32 | (uint32_t)tree.order.data[i];
        }
        select(first, cut, last);
        for (int64_t i = first; i < last; i++)
            tree.order.data[i] = (int32_t)keys.data[i];
        tree.across.data[middle] = axis;
        tree.borders.data[middle] = places.data[tree.order.data[cut] * AXES + axis];
#pragma omp task if ((end - begin) * LEAF >= SMALL / 4)
        divide(begin, middle);
        divide(middle, end);
    }

    // The axis along which the codes [first, last) of the order vary most, by a few of them.
    int widest_axis(int64_t first, int64_t last) const
    {
        const int64_t count = std::min(last - first, FEW_CODES);
        const Place origin = *(const Place *)(places.data + tree.order.data[first] * AXES);
        Place sum{}, square{};
        for (int64_t i = 0; i < count; i++) {
            const int64_t code = tree.order.data[first + (last - first) * i / count];
            const Place place = *(const Place *)(places.data + code * AXES) - origin;
            sum += place;
            square += place * place;
        }
        const Place spread = square - sum * sum / (float)count;
        int widest = 0;
        for (int axis = 1; axis < AXES; axis++)
            widest = spread[axis] > spread[widest] ? axis : widest;
        return widest;
    }

    // Bring the keys below the one that belongs at `cut` before it, as std::nth_element does; but that is slow, for
    // it cannot foresee which keys are. One pass without branches leaves few, between two of a sample (Floyd & Rivest,
    // "Expected Time Bounds for Selection", 1975).
    void select(int64_t first, int64_t cut, int64_t last)
    {
        constexpr int64_t COUNT = 64, APART = 8;
        uint64_t *begin = keys.data + first, *end = keys.data + last, *nth = keys.data + cut;
        if (last - first > 4 * COUNT) {
            uint64_t sample[COUNT];
            for (int64_t i = 0; i < COUNT; i++)
                sample[i] = begin[(last - first) * i / COUNT];
            std::sort(sample, sample + COUNT);
            const int64_t rank = (cut - first) * COUNT / (last - first);
            const uint64_t low = sample[std::max<int64_t>(0, rank - APART)];
            const uint64_t high = sample[std::min(COUNT - 1, rank + APART)];
            uint64_t *lower = begin, *middle = between.data + first, *higher = above.data + first;
            for (const uint64_t *next = begin; next < end; next++) {
                const uint64_t key = *next;
                *lower = *middle = *higher = key;
                lower += key < low;
                middle += key >= low && key <= high;
                higher += key > high;
            }
            uint64_t *rest = std::copy(between.data + first, middle, lower);
            std::copy(above.data + first, higher, rest);
            if (lower <= nth && nth < rest) {
                begin = lower;
                end = rest;
            }
        }
        std::nth_element(begin, nth, end);
    }

    void enclose(int64_t leaf)
    {
        Place least = Place{} + INFINITY, most = Place{} - INFINITY;
        for (int64_t i = leaf * LEAF; i < k && i < (leaf + 1) * LEAF; i++) {
            const Place place = *(const Place *)(places.data + tree.order.data[i] * AXES);
            least = place < least ? place : least;
            most = place > most ? place : most;
        }
        *(Place *)(tree.low.data + leaf * AXES) = least;
        *(Place *)(tree.high.data + leaf * AXES) = most;
    }
};

}  // namespace
