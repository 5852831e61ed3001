#include "search.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "memory.h"
#include "packed_codes.h"
#include "tree_search.h"

namespace flatvq {

namespace {

// Bytes of panels that are searched at once. All of them are read for every few vectors, so they should stay in the
// cache of one core.
constexpr int64_t CACHE = 1 << 19;
// Vectors in a block, which is the least work that a thread takes at a time.
constexpr int64_t BLOCK = 1024;
// Multiply-adds below which the other threads are not started.
constexpr double SINGLE_THREAD = 1 << 18;

// Search for vectors [begin, end), a multiple of the kernels' rows.
void search_range(
    const Kernels &kernels, const Panels &panels, const float *vectors, int64_t begin, int64_t end, float *scores,
    int64_t *nearest)
{
    const int64_t bytes = panels.dim * panels.width * static_cast<int64_t>(sizeof(float));
    const int64_t part = std::max<int64_t>(1, CACHE / bytes);
    std::fill(scores + begin, scores + end, -INFINITY);
    std::fill(nearest + begin, nearest + end, 0);
    for (int64_t first = 0; first < panels.count; first += part) {
        const int64_t last = std::min(first + part, panels.count);
        for (int64_t row = begin; row < end; row += kernels.rows)
            kernels.search(vectors + row * panels.dim, panels, first, last, scores + row, nearest + row);
    }
}

// Search all codes, and call `look_up` for each range of vectors that is done. Returns the bits of the largest
// absolute value among the vectors.
template <class LookUpRange>
int32_t search_all(
    const Kernels &kernels, const Matrix &vectors, const Matrix &codes, int threads, int64_t *nearest,
    const LookUpRange &look_up)
{
    const int64_t n = vectors.rows, dim = vectors.columns;
    const PackedCodes packed(codes, kernels.width, threads);
    // Rows at the end that do not fill a group are searched in a group of their own, filled up with zeros.
    const int64_t groups = n / kernels.rows, whole = groups * kernels.rows, rest = n - whole;
    Buffer<float> scores(whole + kernels.rows), last_rows(kernels.rows * dim);
    Buffer<int64_t> last_nearest(kernels.rows);
    int32_t bits = kernels.largest_bits(vectors.values + whole * dim, rest * dim);
    // Several parts a thread, because other processes may slow some cores down.
    const int64_t parts = std::clamp<int64_t>(n / BLOCK, threads, threads > 1 ? 8 * threads : 1);
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1) reduction(max : bits)
    for (int64_t part = 0; part < parts; part++) {
        const int64_t begin = groups * part / parts * kernels.rows, end = groups * (part + 1) / parts * kernels.rows;
        // Here, because the search then finds the vectors in the cache.
        const int32_t own = kernels.largest_bits(vectors.values + begin * dim, (end - begin) * dim);
        bits = std::max(bits, own);
        if (own >= INFINITY_BITS) {
            std::fill(nearest + begin, nearest + end, 0);
            continue;
        }
        search_range(kernels, packed.panels(), vectors.values, begin, end, scores.data(), nearest);
        look_up(begin, end);
    }
    if (rest) {
        std::fill(last_rows.data(), last_rows.data() + kernels.rows * dim, 0.0f);
        if (bits < INFINITY_BITS)
            std::copy_n(vectors.values + whole * dim, rest * dim, last_rows.data());
        search_range(
            kernels, packed.panels(), last_rows.data(), 0, kernels.rows, scores.data() + whole, last_nearest.data());
        std::copy_n(last_nearest.data(), rest, nearest + whole);
        look_up(whole, n);
    }
    return bits;
}

}  // namespace

float search(
    const Kernels &kernels, Method method, const Matrix &vectors, const Matrix &codes, int threads, int64_t *nearest,
    const LookUp *look_up)
{
    const int64_t n = vectors.rows;
    const double products =
        static_cast<double>(n) * static_cast<double>(codes.rows) * static_cast<double>(codes.columns);
    threads = products < SINGLE_THREAD ? 1 : std::max(1, threads);
    Buffer<double> squares(look_up ? n : 0);
    const auto look_up_range = [&](int64_t begin, int64_t end) {
        const int64_t start = begin * codes.columns;
        if (look_up)
            kernels.look_up(
                look_up->vectors.values + start, end - begin, codes.columns, look_up->codes.values, nearest + begin,
                look_up->code_vectors + start, squares.data() + begin);
    };
    int32_t bits = 0;
    const bool use_tree = method == Method::TREE || (method == Method::AUTOMATIC && tree_may_help(vectors, codes));
    if (use_tree && search_tree(kernels, vectors, codes, threads, method == Method::TREE, nearest, bits)) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
        for (int64_t begin = 0; begin < n; begin += BLOCK)
            look_up_range(begin, std::min(n, begin + BLOCK));
    } else {
        bits = search_all(kernels, vectors, codes, threads, nearest, look_up_range);
    }
    if (look_up) {
        // In the order of the vectors, so that the number of threads does not change the sum.
        const double sum = bits < INFINITY_BITS ? std::accumulate(squares.data(), squares.data() + n, 0.0) : NAN;
        *look_up->error = static_cast<float>(sum / static_cast<double>(n * codes.columns));
    }
    float largest;
    std::memcpy(&largest, &bits, sizeof largest);
    return largest;
}

}  // namespace flatvq
