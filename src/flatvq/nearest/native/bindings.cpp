// The Python module `flatvq.nearest._native`.
//
// Arrays come as addresses, because converting a tensor to a nanobind array takes longer than a small search.
// `compiled.py` is the only caller, and checks types and shapes.

#include <nanobind/nanobind.h>

#include "code_range.h"
#include "kernels.h"
#include "search.h"
#include "sums.h"

namespace nb = nanobind;
using namespace flatvq;

namespace {

template <typename T> T *pointer(uintptr_t address) { return reinterpret_cast<T *>(address); }

float search_only(
    const Kernels &kernels, Method method, const Matrix &vectors, const Matrix &codes, int threads, uintptr_t nearest)
{
    return search(kernels, method, vectors, codes, threads, pointer<int64_t>(nearest), nullptr);
}

float search_and_look_up(
    const Kernels &kernels, Method method, const Matrix &vectors, const Matrix &codes, int threads, uintptr_t nearest,
    const Matrix &original_vectors, const Matrix &original_codes, uintptr_t code_vectors, uintptr_t error)
{
    const LookUp look_up{
        original_vectors, original_codes, pointer<float>(code_vectors), pointer<float>(error)};
    return search(kernels, method, vectors, codes, threads, pointer<int64_t>(nearest), &look_up);
}

CodeRange range(
    const Kernels &kernels, const Matrix &codes, double least, double most, double deviations, uintptr_t medians)
{
    return code_range(kernels, codes, least, most, deviations, pointer<float>(medians));
}

void add(const Matrix &vectors, uintptr_t codes, int threads, uintptr_t sums)
{
    add_to_sums(vectors, pointer<const int64_t>(codes), threads, pointer<float>(sums));
}

}  // namespace

NB_MODULE(_native, m)
{
    using Unlocked = nb::call_guard<nb::gil_scoped_release>;
    nb::class_<Matrix>(m, "Matrix")
        .def("__init__", [](Matrix *self, uintptr_t values, int64_t rows, int64_t columns) {
            new (self) Matrix{pointer<const float>(values), rows, columns};
        });
    nb::class_<Kernels>(m, "Kernels")
        .def_prop_ro("name", [](const Kernels &kernels) { return kernels.name; })
        .def_prop_ro("supported", [](const Kernels &kernels) { return kernels.supported(); });
    nb::enum_<Method>(m, "Method")
        .value("AUTOMATIC", Method::AUTOMATIC)
        .value("ALL_CODES", Method::ALL_CODES)
        .value("TREE", Method::TREE);
    nb::enum_<CodeRange>(m, "CodeRange")
        .value("UNCLEAR", CodeRange::UNCLEAR)
        .value("AS_IS", CodeRange::AS_IS)
        .value("OFFSET", CodeRange::OFFSET);
    nb::list kernels;
#if defined(__x86_64__)
    kernels.append(nb::cast(&AVX512, nb::rv_policy::reference));
    kernels.append(nb::cast(&AVX2, nb::rv_policy::reference));
#endif
    kernels.append(nb::cast(&BASELINE, nb::rv_policy::reference));
    m.attr("KERNELS") = kernels;
    m.def("search", search_only, Unlocked());
    m.def("search_and_look_up", search_and_look_up, Unlocked());
    m.def("code_range", range, Unlocked());
    m.def("add_to_sums", add, Unlocked());
}
