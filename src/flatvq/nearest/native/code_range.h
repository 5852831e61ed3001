// A check of the codes before a search, in one or two passes over memory.

#ifndef FLATVQ_CODE_RANGE_H
#define FLATVQ_CODE_RANGE_H

#include "kernels.h"

namespace flatvq {

// How codes can be searched: as they are; after their medians are subtracted; or only after a closer check.
enum class CodeRange { UNCLEAR, AS_IS, OFFSET };

// Check codes [k, dim].
//
// A coordinate is offset if its mean is further than `deviations` standard deviations from zero. If a coordinate
// is, and `medians` [dim] is not null, `medians` becomes the median of each offset coordinate, and zero for the
// others. The result is UNCLEAR if the largest absolute value is not finite or not between `least` and `most`, or
// if a mean is so close to the limit that rounding may decide. Throws std::bad_alloc.
CodeRange code_range(
    const Kernels &kernels, const Matrix &codes, double least, double most, double deviations, float *medians);

}  // namespace flatvq

#endif
