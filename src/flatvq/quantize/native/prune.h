// The search that passes over most codes: beside the boxes of a tree, which is grown for the while, or kept where codes
// come again (prepared.h).

namespace {

// Vectors by which it is seen how many leaves are near.
constexpr int ASKED = 32;

// How long a search takes that visits this share of all leaves, beside one that computes all scores in floats: what
// a visit costs beside the scores, and how long the tree grows, which it does once for codes that come again. Fitted,
// as are the bounds in VARIANTS, to times for K from 256 to 65,536, D from 4 to 512 and N of 512 to 16,384, of random
// codes of many and of few directions and of trained ones.
double effort(const Task &task, double share)
{
    const double grow = task.again ? 150 : 15000;
    return share * (1 + 16.0 / (double)task.dim) + grow / (double)(task.n * task.dim);
}

bool may_prune(const Variant &variant, const Task &task, double even)
{
    return variant.chunk && task.k >= 8 * LEAF && effort(task, 0) < even;
}

// As scan; false if a tree is of no use here, for it takes more effort than `even`, where `patience` is given to
// remember that, or there is no memory for it.
bool prune(const Variant &variant, const Task &task, double even, Patience *patience, int32_t &most_bits)
{
    const int64_t n = task.n, dim = task.dim;
    if (!n || task.k > INT32_MAX)
        return false;
    const std::shared_ptr<const Prepared> prepared = Shelf::only().prepare(variant, task);
    if (!prepared)
        return false;
    const Tree &tree = *prepared->tree;
    const Codes &packed = prepared->codes;
    Array<float> places(n * AXES);
    Array<int32_t> leaves(n);
    Array<int64_t> rows(n), starts(tree.leaves + 1);
    if (!places.data || !leaves.data || !rows.data || !starts.data)
        return false;

    constexpr int64_t BLOCK = 64;
    int32_t bits = 0;
#pragma omp parallel for num_threads(task.pieces) reduction(max : bits) if (task.pieces > 1)
    for (int64_t begin = 0; begin < n; begin += BLOCK) {
        const int64_t count = std::min(BLOCK, n - begin);
        const float *vectors = task.vectors + begin * dim;
        bits = std::max(bits, variant.largest(vectors, count * dim));
        variant.project(vectors, count, dim, tree.axes.data, places.data + begin * AXES);
        for (int64_t row = begin; row < begin + count; row++)
            leaves.data[row] = (int32_t)tree.leaf(places.data + row * AXES);
    }
    most_bits = bits;
    if (bits >= INFINITE) {
        std::fill(task.nearest, task.nearest + n, 0);
        return true;
    }
    float most;
    std::memcpy(&most, &bits, sizeof most);
    if (!(packed.moderate() && most * std::sqrt((double)dim) <= LONGEST))
        return false;

    // Rows in the order of their leaves, so that those of a chunk lie together.
    std::fill(starts.data, starts.data + tree.leaves + 1, 0);
    for (int64_t row = 0; row < n; row++)
        starts.data[leaves.data[row] + 1]++;
    std::partial_sum(starts.data, starts.data + tree.leaves + 1, starts.data);
    for (int64_t row = 0; row < n; row++)
        rows.data[starts.data[leaves.data[row]]++] = row;

    if (patience) {
        int64_t some[ASKED];
        for (int i = 0; i < ASKED; i++)
            some[i] = rows.data[n * i / ASKED];
        const int64_t near =
            variant.search_chunk(tree, packed, task.vectors, places.data, some, ASKED, true, task.nearest);
        const bool useful = effort(task, (double)near / (double)(tree.leaves * ASKED)) < even;
        patience->note(useful);
        if (!useful)
            return false;
    }
#pragma omp parallel for num_threads(task.pieces) schedule(dynamic) if (task.pieces > 1)
    for (int64_t begin = 0; begin < n; begin += variant.chunk)
        variant.search_chunk(
            tree, packed, task.vectors, places.data, rows.data + begin,
            (int)std::min<int64_t>(variant.chunk, n - begin), false, task.nearest);
#pragma omp parallel for num_threads(task.pieces) if (task.pieces > 1)
    for (int64_t begin = 0; begin < n; begin += BLOCK)
        task.look_up(variant, begin, std::min(n, begin + BLOCK));
    return true;
}

}  // namespace
