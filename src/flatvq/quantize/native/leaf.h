// The codes of a tree's leaves beside a chunk of vectors: included like integers.h, after it.
//
// A leaf whose box is further away than a vector's nearest code so far has nothing to offer it, and is passed over.
// Scores are group.h's, and of equal ones the first code's is taken, in whatever order leaves are visited: so the same
// codes are found.
//
// It needs, beside what screen.h does, GREATER and LESSER, of two registers, lane by lane.

namespace VARIANT {

// Registers of vectors in a chunk, and the vectors in them.
constexpr int PARTS = 8, CHUNK = PARTS * LANES;
// Registers of codes for which sums are kept, beside ROWS vectors; and codes in them.
constexpr int BEAM = 2, STRIP = BEAM * LANES;

// The places of [count, dim] values: their coordinates along the axes of a tree.
TARGET static void project(const float *values, int64_t count, int64_t dim, const float *axes, float *places)
{
    constexpr int AT_ONCE = 8;
    for (int64_t first = 0; first < count; first += AT_ONCE) {
        const float *value[AT_ONCE];
        Place sum[AT_ONCE] = {};
        for (int i = 0; i < AT_ONCE; i++)
            value[i] = values + (first + i < count ? first + i : count - 1) * dim;
        for (int64_t d = 0; d < dim; d++)
#pragma GCC unroll 8
            for (int i = 0; i < AT_ONCE; i++)
                sum[i] += value[i][d] * *(const Place *)(axes + d * AXES);
        for (int i = 0; i < AT_ONCE && first + i < count; i++)
            *(Place *)(places + (first + i) * AXES) = sum[i];
    }
}

namespace {

class Chunk {
public:
    // The vectors in `count` rows of [n, dim], and their places.
    TARGET Chunk(
        const Tree &tree, const Codes &codes, const float *vectors, const float *places, const int64_t *rows,
        int count)
        : tree(tree), codes(codes)
    {
        for (int i = 0; i < CHUNK; i++) {
            // What fills the chunk up is a vector that every leaf is too far from.
            const int64_t row = rows[i < count ? i : count - 1];
            vector[i] = vectors + row * codes.dim;
            double sum = 0;
            for (int64_t d = 0; d < codes.dim; d++)
                sum += (double)vector[i][d] * vector[i][d];
            // Rounding, each with some to spare: twice what it does to a score, (dim + 1) 2^-24 (|z e| + |e|^2 / 2);
            // and 2^9 times the square of what it does to a place, AXES^(1/2) dim 2^-24 (|z| + |e|).
            const double rounding = (double)(codes.dim + 4) * 0x1p-22;
            slack[i] = (float)((rounding + 0x1p10 * rounding * rounding) * (sum + codes.longest * codes.longest));
            square[i] = (float)sum;
            score[i] = -INFINITY;
            code[i] = 0;
            reach[i] = i < count ? INFINITY : -1;
            const Place place = *(const Place *)(places + row * AXES);
            for (int axis = 0; axis < AXES; axis++)
                coordinates[axis][i] = place[axis];
            low = place < low ? place : low;
            high = place > high ? place : high;
        }
    }

    // Look at a leaf.
    TARGET void look(int64_t leaf)
    {
        if (gap(leaf) > furthest)
            return;
        int list[CHUNK];
        const int count = within_reach(leaf, list);
        visit(leaf, list, count);
        if (improved)
            furthest = folded<LARGEST, CHUNK>(reach);
        improved = false;
    }

    // List the vectors that have a leaf within reach, and return how many they are.
    TARGET int within_reach(int64_t leaf, int *list) const
    {
        Floats distance[PARTS] = {};
#pragma GCC unroll 8
        for (int axis = 0; axis < AXES; axis++) {
            const Floats least = Floats{} + tree.low.data[leaf * AXES + axis];
            const Floats most = Floats{} + tree.high.data[leaf * AXES + axis];
#pragma GCC unroll 8
            for (int part = 0; part < PARTS; part++) {
                const Floats here = *(const Floats *)(coordinates[axis] + part * LANES);
                const Floats apart = LESSER(GREATER(here, least), most) - here;
                distance[part] += apart * apart;
            }
        }
        int count = 0;
        for (int first = 0; first < PARTS; first += SPAN) {
            uint64_t found = 0;
            for (int part = first; part < first + SPAN && part < PARTS; part++)
                found |= (uint64_t)(unsigned)AT_LEAST(*(const Floats *)(reach + part * LANES), distance[part])
                         << (part - first) * LANES;
            for (; found; found &= found - 1)
                list[count++] = first * LANES + __builtin_ctzll(found);
        }
        return count;
    }

    int64_t nearest(int i) const { return code[i]; }

private:
    const Tree &tree;
    const Codes &codes;
    const float *vector[CHUNK];
    float coordinates[AXES][CHUNK];
    Place low = Place{} + INFINITY, high = Place{} - INFINITY;  // their box
    // |z|^2; the highest score, and its code; and the square of how far away a box may be, plus the slack.
    float square[CHUNK], score[CHUNK], slack[CHUNK], reach[CHUNK];
    int64_t code[CHUNK];
    float furthest = INFINITY;
    bool improved = false;

    // The square of how far the boxes of a leaf and of the chunk are apart.
    TARGET float gap(int64_t leaf) const
    {
        const Place left = *(const Place *)(tree.low.data + leaf * AXES) - high;
        const Place right = low - *(const Place *)(tree.high.data + leaf * AXES);
        Place apart = left > right ? left : right;
        apart = apart > 0 ? apart * apart : Place{};
        float sum = 0;
        for (int axis = 0; axis < AXES; axis++)
            sum += apart[axis];
        return sum;
    }

    // Compute the scores of a leaf's codes for the vectors in a list, as group.h does.
    TARGET void visit(int64_t leaf, const int *list, int count)
    {
        const int64_t dim = codes.dim;
        for (int begin = 0; begin < count; begin += ROWS) {
            int which[ROWS];
            const float *given[ROWS];
#pragma GCC unroll 8
            for (int row = 0; row < ROWS; row++) {
                which[row] = list[begin + row < count ? begin + row : count - 1];
                given[row] = vector[which[row]];
            }
            for (int64_t strip = leaf * LEAF; strip < (leaf + 1) * LEAF; strip += STRIP) {
                const float *column = codes.panels + leaf * LEAF * dim + strip % LEAF;
                Floats sum[ROWS][BEAM];
#pragma GCC unroll 8
                for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 4
                    for (int reg = 0; reg < BEAM; reg++)
                        sum[row][reg] = *(const Floats *)(codes.offsets + strip + reg * LANES);
                for (int64_t d = 0; d < dim; d++)
#pragma GCC unroll 8
                    for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 4
                        for (int reg = 0; reg < BEAM; reg++)
                            sum[row][reg] += given[row][d] * *(const Floats *)(column + d * LEAF + reg * LANES);
#pragma GCC unroll 8
                for (int row = 0; row < ROWS; row++) {
                    Floats highest = sum[row][0];
#pragma GCC unroll 4
                    for (int reg = 1; reg < BEAM; reg++)
                        highest = GREATER(highest, sum[row][reg]);
                    if (__builtin_expect(AT_LEAST(highest, Floats{} + score[which[row]]) != 0, 0)) {
                        Floats scores[BEAM];
#pragma GCC unroll 4
                        for (int reg = 0; reg < BEAM; reg++)
                            scores[reg] = sum[row][reg];
                        improve(which[row], scores, strip);
                    }
                }
            }
        }
    }

    // Take a code from a strip: one of a higher score, or one of the same score that comes first.
    __attribute__((noinline)) TARGET void improve(int i, const Floats *scores, int64_t strip)
    {
        const float highest = folded<LARGEST, STRIP>((const float *)scores);
        int64_t first = INT64_MAX;
        for (int reg = 0; reg < BEAM; reg++)
            for (unsigned equal = AT_LEAST(scores[reg], Floats{} + highest); equal; equal &= equal - 1) {
                const int64_t other = tree.order.data[strip + reg * LANES + __builtin_ctz(equal)];
                first = other < first ? other : first;
            }
        if (score[i] == highest) {
            code[i] = first < code[i] ? first : code[i];
            return;
        }
        score[i] = highest;
        code[i] = first;
        // |z - e|^2 = |z|^2 - 2 (z e - |e|^2 / 2). A place is off by b, and (a + b)^2 <= a^2 (1 + 2^-9) + b^2 (1 + 2^9).
        const float distance = square[i] - 2 * highest;
        reach[i] = (distance > 0 ? distance : 0) * (1 + 0x1p-8f) + slack[i];
        improved = true;
    }
};

}  // namespace

// Write the nearest codes of the vectors in `count` rows. If it is asked for, return how many pairs of a leaf and a
// vector there are whose box is no further than the vector's nearest code.
TARGET static int64_t search_chunk(
    const Tree &tree, const Codes &codes, const float *vectors, const float *places, const int64_t *rows, int count,
    bool ask, int64_t *nearest)
{
    Chunk chunk(tree, codes, vectors, places, rows, count);
    // First the leaf that a vector is in, then leaves ever further from it in the tree.
    const int64_t own = tree.leaf(places + rows[count / 2] * AXES);
    for (int64_t step = 0, leaf = own; step < 2 * tree.leaves; leaf = ++step ^ own)
        if (leaf < tree.leaves)
            chunk.look(leaf);
    for (int i = 0; i < count; i++)
        nearest[rows[i]] = chunk.nearest(i);
    int64_t near = 0;
    int list[CHUNK];
    for (int64_t leaf = 0; ask && leaf < tree.leaves; leaf++)
        near += chunk.within_reach(leaf, list);
    return near;
}

}  // namespace VARIANT
