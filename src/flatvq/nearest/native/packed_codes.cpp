#include "packed_codes.h"

#include <algorithm>
#include <cmath>

namespace flatvq {

namespace {

// Codes that are packed at once: a single chain of sums would mostly wait for its last result.
constexpr int AT_ONCE = 4;

int64_t panels_for(const Matrix &codes, int64_t width) { return (codes.rows + width - 1) / width; }

}  // namespace

PackedCodes::PackedCodes(const Matrix &codes, int64_t width, int threads, const int32_t *order)
    : values(panels_for(codes, width) * width * codes.columns), offsets(panels_for(codes, width) * width),
      packed{codes.columns, panels_for(codes, width), width, values.data(), offsets.data()}
{
    const int64_t k = codes.rows, dim = codes.columns;
    const int64_t blocks = (k + AT_ONCE - 1) / AT_ONCE;
    float lowest = 0;
#pragma omp parallel for num_threads(threads) reduction(min : lowest) if (threads > 1)
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t first = block * AT_ONCE;
        const float *code[AT_ONCE];
        double square[AT_ONCE] = {};
        for (int i = 0; i < AT_ONCE; i++) {
            const int64_t place = std::min(first + i, k - 1);  // the last block repeats the last code
            code[i] = codes.values + (order ? order[place] : place) * dim;
        }
        float *column = values.data() + first / width * width * dim + first % width;
        for (int64_t d = 0; d < dim; d++, column += width)
#pragma GCC unroll 4
            for (int i = 0; i < AT_ONCE; i++) {
                const float value = code[i][d];
                column[i] = value;
                square[i] += static_cast<double>(value) * value;
            }
        for (int i = 0; i < AT_ONCE; i++) {
            offsets[first + i] = static_cast<float>(square[i] / -2);
            lowest = std::min(lowest, offsets[first + i]);
        }
    }
    length = std::sqrt(-2.0 * lowest);
    for (int64_t place = k; place < packed.count * width; place++) {
        offsets[place] = -INFINITY;
        for (int64_t d = 0; d < dim; d++)
            values[(packed.count - 1) * width * dim + d * width + place % width] = 0;
    }
}

}  // namespace flatvq
