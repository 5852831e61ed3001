#include "sums.h"

#include <algorithm>

namespace flatvq {

namespace {

// Additions below which the other threads are not started.
constexpr int64_t SINGLE_THREAD = 1 << 16;
// Dimensions in a cache line. A thread gets whole lines, so that no two threads write to the same one.
constexpr int64_t LINE = 16;

void add(const Matrix &vectors, const int64_t *codes, int64_t begin, int64_t end, float *sums)
{
    const int64_t dim = vectors.columns;
    for (int64_t row = 0; row < vectors.rows; row++) {
        const float *vector = vectors.values + row * dim;
        float *sum = sums + codes[row] * dim;
        for (int64_t d = begin; d < end; d++)
            sum[d] += vector[d];
    }
}

}  // namespace

void add_to_sums(const Matrix &vectors, const int64_t *codes, int threads, float *sums)
{
    const int64_t dim = vectors.columns, lines = (dim + LINE - 1) / LINE;
    const int64_t parts = vectors.rows * dim < SINGLE_THREAD ? 1 : std::clamp<int64_t>(threads, 1, lines);
#pragma omp parallel for num_threads(static_cast<int>(parts)) schedule(static) if (parts > 1)
    for (int64_t part = 0; part < parts; part++) {
        const int64_t begin = lines * part / parts * LINE, end = lines * (part + 1) / parts * LINE;
        add(vectors, codes, begin, std::min(end, dim), sums);
    }
}

}  // namespace flatvq
