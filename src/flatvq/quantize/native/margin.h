// How far below the largest score the code that group.h finds can come, where vectors and codes are rounded: included
// like integers.h, before it.
//
// A search that screens looks for the rounded code nearest to a rounded vector. Rounding moves a vector and a code by
// lengths that are known, and so changes no distance between the two by more than both together, `moved` (the triangle
// inequality). Take the code of the largest rounded score, `near` the rounded vector: before it was no further than
// near + moved. Nor is the code that group.h finds, but for what sums are rounded by there, r at most: the square of
// how far it is, s^2, is no more than (near + moved)^2 + 4 r. Rounded, it is within s + moved. Scores differ by half
// of what squares of distances do: ((s + moved)^2 - near^2) / 2 = moved (near + moved + s) + 2 r.
//
// So what is allowed is in proportion to how far the nearest code is, not to how long vectors are.
//
// It needs, beside what group.h does, SCREEN_TARGET (the attribute), GREATER (of two registers, lane by lane) and
// SQUARE_ROOT.

namespace VARIANT {

// Vectors that were rounded, one to a lane: the squares of their lengths now, and of what rounding took off; and the
// sums of their integers, where they are such.
struct Rounded {
    Floats square, lost, sum;
};

// What is allowed, where `top` is the largest score of the rounded, and `offset` what that of a code is rounded by.
SCREEN_TARGET static Floats margin(const Rounded &vectors, const Floats &top, const Codes &codes, float offset)
{
    const float longest = (float)codes.longest;
    const Floats length = SQUARE_ROOT(vectors.square), size = length + longest;
    // The last term for what is computed of lengths.
    const Floats moved = SQUARE_ROOT(vectors.lost) + codes.lost + 0x1p-22f * size;
    // Here and in group.h a rounding for each number that is added, and a few more; what is below the least normal
    // number may count as zero, which is far less.
    const Floats r = (float)(3 * codes.dim + 16) * 0x1p-24f * size * size + offset;
    const Floats square = vectors.square - 2.0f * top + 2.0f * r;
    const Floats near = SQUARE_ROOT(GREATER(square, Floats{})), before = near + moved;
    const Floats s = SQUARE_ROOT(before * before + 4.0f * r);
    // Some hundredths more for what is computed here.
    return 1.02f * (moved * (before + s) + 2.0f * r);
}

}  // namespace VARIANT
