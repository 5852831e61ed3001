// Sums of the vectors of each code.

#ifndef FLATVQ_SUMS_H
#define FLATVQ_SUMS_H

#include <cstdint>

#include "kernels.h"

namespace flatvq {

// Add each vector [n, dim] to the sum of its code in `sums` [k, dim], in the order of the vectors: the result is
// that of a plain loop, bit by bit, for any number of threads. `codes` [n] holds the code of each vector.
void add_to_sums(const Matrix &vectors, const int64_t *codes, int threads, float *sums);

}  // namespace flatvq

#endif
