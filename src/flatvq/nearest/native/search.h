// The search for the nearest codes, by any kernels and with any number of threads.

#ifndef FLATVQ_SEARCH_H
#define FLATVQ_SEARCH_H

#include <cstdint>

#include "kernels.h"

namespace flatvq {

// What a search can also do: copy the code of each vector, and compute the mean squared error. `vectors` and
// `codes` are the arrays of the search before the caller centered them.
struct LookUp {
    Matrix vectors, codes;
    float *code_vectors;  // [n, dim]
    float *error;         // the mean of (z - e)^2 over all elements, or NaN if there are none
};

// Search all codes, or use a tree that skips most of them (tree.h). AUTOMATIC uses a tree where that is faster.
enum class Method { AUTOMATIC, ALL_CODES, TREE };

// Find the nearest code [n] of each vector [n, dim] among codes [k, dim]; of equally near ones, the first. Returns
// the largest absolute value among the vectors; if that is NaN or infinite, the indices are in [0, k) but have no
// meaning. The method changes no bit of the result. `look_up` may be null. Throws std::bad_alloc.
float search(
    const Kernels &kernels, Method method, const Matrix &vectors, const Matrix &codes, int threads, int64_t *nearest,
    const LookUp *look_up);

}  // namespace flatvq

#endif
