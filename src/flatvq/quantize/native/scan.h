// The search that looks at every code, by rounded scores first where the variant screens.

namespace {

// Write the nearest codes, and what is looked up of them, and the bits of the vectors' largest absolute value. Returns
// for how many vectors a variant that screens had to compute all scores in floats; or -1, if there is no memory for a
// copy of the codes.
int64_t scan(const Variant &variant, const Task &task, int32_t &most_bits)
{
    const int64_t n = task.n, dim = task.dim, pieces = task.pieces;
    const std::shared_ptr<const Prepared> prepared = Shelf::only().prepare(variant, task);
    if (!prepared)
        return -1;
    const Codes &packed = prepared->codes;
    const bool screens = packed.groups;
    // The last rows of vectors that do not fill a group are searched in a group of their own.
    const int64_t whole = n - n % variant.rows, rest = n - whole, rows = whole / variant.rows;
    const int64_t room = screens ? variant.room(packed) : 0;
    Array<float> scores(whole + variant.rows), last(variant.rows * dim);
    Array<char> rooms(room * pieces);
    int64_t found[MOST_ROWS] = {};
    if (!scores.data || !last.data || !rooms.data)
        return -1;
    std::fill(scores.data, scores.data + whole + variant.rows, -INFINITY);

    const Search search{variant, packed, task.vectors, scores.data, task.nearest};
    const int32_t rest_bits = variant.largest(task.vectors + whole * dim, rest * dim);
    int32_t bits_so_far = rest_bits;
    int64_t without = 0;
    // Several parts to a thread, for cores may differ in what else they do; but each of a block or more.
    const int64_t blocks = rows / BLOCK_GROUPS, most = pieces > 1 ? 8 * pieces : 1;
    const int64_t parts = blocks < pieces ? pieces : blocks < most ? blocks : most;
#pragma omp parallel for num_threads(pieces) schedule(dynamic) if (pieces > 1) \
    reduction(max : bits_so_far) reduction(+ : without)
    for (int64_t part = 0; part < parts; part++) {
        const int64_t begin = rows * part / parts * variant.rows, end = rows * (part + 1) / parts * variant.rows;
        // Now, for then the search finds the vectors in the caches.
        const int32_t bits = variant.largest(task.vectors + begin * dim, (end - begin) * dim);
        bits_so_far = bits_so_far < bits ? bits : bits_so_far;
        std::fill(task.nearest + begin, task.nearest + end, 0);
        if (bits >= INFINITE)
            continue;
        if (screens)
            without += variant.screen(search, begin, end, rooms.data + omp_get_thread_num() * room);
        else
            search.plain(begin, end);
        task.look_up(variant, begin, end);
    }
    if (rest && rest_bits < INFINITE) {
        std::memset(last.data, 0, variant.rows * dim * sizeof(float));
        std::memcpy(last.data, task.vectors + whole * dim, rest * dim * sizeof(float));
        const Search tail{variant, packed, last.data, scores.data + whole, found};
        if (screens)
            without += std::min(rest, variant.screen(tail, 0, variant.rows, rooms.data));
        else
            tail.plain(0, variant.rows);
    }
    std::copy(found, found + rest, task.nearest + whole);
    task.look_up(variant, whole, n);
    most_bits = bits_so_far;
    return without;
}

}  // namespace
