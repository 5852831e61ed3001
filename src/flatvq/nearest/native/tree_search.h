// The search that skips codes which are too far from a vector.

#ifndef FLATVQ_TREE_SEARCH_H
#define FLATVQ_TREE_SEARCH_H

#include "kernels.h"
#include "search.h"

namespace flatvq {

// Search as `search` in search.h does, with a tree over the codes. Returns false, and leaves the outputs undefined,
// if the tree does not help: if values are so large or small that bounds could overflow, or, unless `always` is set,
// if vectors have so many leaves within reach that a search of all codes is faster.
bool search_tree(
    const Kernels &kernels, const Matrix &vectors, const Matrix &codes, int threads, bool always, int64_t *nearest,
    int32_t &largest_bits);

// Whether there are so many vectors and codes that a tree costs little compared with the search.
bool tree_may_help(const Matrix &vectors, const Matrix &codes);

}  // namespace flatvq

#endif
