// A k-d tree over codes (Bentley 1975), which groups codes that lie close together.
//
// A leaf holds LEAF codes. The leaves are numbered, and a node is a range of leaves that is divided in the middle. A
// node's axis and border are stored under the number of its middle leaf, which is the middle of no other node. So
// leaves whose numbers share their leading bits lie close together.
//
// A place is AXES coordinates of a vector or a code. They are the values themselves if there are at most AXES of
// them, and else coordinates along the directions in which codes vary most: the codes of a trained codebook vary
// little in all others. The directions are orthonormal, so two places are no further apart than the vectors or
// codes (Bessel's inequality).

#ifndef FLATVQ_TREE_H
#define FLATVQ_TREE_H

#include <cstdint>

#include "kernels.h"
#include "memory.h"

namespace flatvq {

class Tree {
public:
    // Build a tree over codes [k, dim], k < 2^31. Throws std::bad_alloc.
    Tree(const Kernels &kernels, const Matrix &codes, int threads);

    // The leaf on whose side of all borders a place lies.
    int64_t leaf_of(const float *place) const;

    const int64_t leaves;
    Buffer<float> axes;       // [dim, AXES]
    Buffer<float> low, high;  // the boxes around the places of each leaf, [leaves, AXES]
    Buffer<int32_t> order;    // the codes in the order of the leaves, [k]

private:
    class Builder;

    // For each node, the lowest coordinate beyond its middle, and the axis of that.
    Buffer<float> borders;
    Buffer<int32_t> border_axes;
};

}  // namespace flatvq

#endif
