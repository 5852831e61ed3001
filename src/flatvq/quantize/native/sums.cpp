// Sums of each code's vectors, added in the order of the vectors: the bits of a plain loop.
//
// Axes: n vectors, dim. Threads share the dimensions out, so that none writes where another does and the order
// of additions is the same for any number of them.

#include <cstdint>

namespace {

// Additions below which threads are not worth waking, and dimensions of a share: a cache line of sums.
constexpr int64_t FEW = 1 << 16, LINE = 16;

void add(
    const float *vectors, int64_t n, int64_t dim, const int64_t *codes, int64_t begin, int64_t end,
    float *sums)
{
    for (int64_t row = 0; row < n; row++) {
        const float *vector = vectors + row * dim;
        float *sum = sums + codes[row] * dim;
        for (int64_t d = begin; d < end; d++)
            sum[d] += vector[d];
    }
}

}  // namespace

// Add each vector [n, dim] to the sum [k, dim] of its code [n].
extern "C" void flatvq_sums(
    const float *vectors, int64_t n, int64_t dim, const int64_t *codes, int threads, float *sums)
{
    const int64_t shares = (dim + LINE - 1) / LINE;
    const int64_t pieces = n * dim < FEW || threads < 1 ? 1 : threads < shares ? threads : shares;
    if (pieces == 1) {
        add(vectors, n, dim, codes, 0, dim, sums);
        return;
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t piece = 0; piece < pieces; piece++) {
        const int64_t begin = shares * piece / pieces * LINE, end = shares * (piece + 1) / pieces * LINE;
        add(vectors, n, dim, codes, begin, end < dim ? end : dim, sums);
    }
}
