// Searches of random shapes, compared with a plain loop: `make sanitize` builds it with AddressSanitizer and UBSan.
//
// Values are small integers, so that all scores are exact and ties are many. Arrays are as long as they have to be,
// so that a read or write beyond them is seen.

#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "code_range.h"
#include "search.h"
#include "sums.h"

using namespace flatvq;

namespace {

struct Case {
    int64_t n, k, dim;
    std::vector<float> vectors, codes;

    Case(std::mt19937 &random, int64_t n, int64_t k, int64_t dim) : n(n), k(k), dim(dim)
    {
        std::uniform_int_distribution<int> value(-3, 3);
        for (int64_t i = 0; i < n * dim; i++)
            vectors.push_back((float)value(random));
        for (int64_t i = 0; i < k * dim; i++)
            codes.push_back((float)value(random));
    }

    int64_t nearest(int64_t row) const
    {
        int64_t best = 0;
        double least = INFINITY;
        for (int64_t code = 0; code < k; code++) {
            double sum = 0;
            for (int64_t d = 0; d < dim; d++) {
                const double apart = (double)vectors[row * dim + d] - codes[code * dim + d];
                sum += apart * apart;
            }
            if (sum < least) {
                least = sum;
                best = code;
            }
        }
        return best;
    }
};

// The number of wrong indices.
int64_t errors(const Case &given, const Kernels &kernels, Method method, int threads)
{
    const Matrix vectors{given.vectors.data(), given.n, given.dim}, codes{given.codes.data(), given.k, given.dim};
    std::vector<int64_t> nearest(given.n, -1);
    std::vector<float> code_vectors(given.n * given.dim), sums(given.k * given.dim), medians(given.dim);
    float error = 0;
    const LookUp look_up{vectors, codes, code_vectors.data(), &error};
    search(kernels, method, vectors, codes, threads, nearest.data(), &look_up);
    code_range(kernels, codes, 1e-12, 1e15, 0.01, medians.data());
    add_to_sums(vectors, nearest.data(), threads, sums.data());
    int64_t wrong = 0;
    for (int64_t row = 0; row < given.n; row++)
        wrong += nearest[row] != given.nearest(row) ||
                 code_vectors[row * given.dim] != given.codes[nearest[row] * given.dim];
    return wrong;
}

}  // namespace

int main()
{
    std::mt19937 random(0);
    std::uniform_int_distribution<int64_t> rows(1, 400), sizes(1, 600), dims(1, 40);
    const Kernels *const all[] = {
#if defined(__x86_64__)
        &AVX512, &AVX2,
#endif
        &BASELINE};
    int64_t wrong = 0, searches = 0;
    for (int round = 0; round < 60; round++) {
        const Case given(random, rows(random), sizes(random), dims(random));
        for (const Kernels *kernels : all)
            for (const Method method : {Method::ALL_CODES, Method::TREE, Method::AUTOMATIC})
                for (const int threads : {1, 2})
                    if (kernels->supported()) {
                        wrong += errors(given, *kernels, method, threads);
                        searches++;
                    }
    }
    // Enough vectors for the rule to try a tree by itself.
    const Case large(random, 3000, 300, 12);
    for (const Kernels *kernels : all)
        wrong += kernels->supported() ? errors(large, *kernels, Method::AUTOMATIC, 2) : 0;
    std::printf("%lld searches, %lld wrong indices\n", (long long)searches, (long long)wrong);
    return wrong ? 1 : 0;
}
