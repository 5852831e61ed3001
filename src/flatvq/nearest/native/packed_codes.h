// Codes in the layout that the kernels read.

#ifndef FLATVQ_PACKED_CODES_H
#define FLATVQ_PACKED_CODES_H

#include <cstdint>

#include "kernels.h"
#include "memory.h"

namespace flatvq {

// A copy of codes [k, dim] in panels of `width` codes, a multiple of 4, in their own order or in `order` [k]. Throws
// std::bad_alloc.
class PackedCodes {
public:
    PackedCodes(const Matrix &codes, int64_t width, int threads, const int32_t *order = nullptr);

    const Panels &panels() const { return packed; }

    // The length of the longest code.
    double longest() const { return length; }

private:
    Buffer<float> values, offsets;
    Panels packed;
    double length;
};

}  // namespace flatvq

#endif
