# Rules about the source and the objects made of it.
kiln_python_test(architecture/includes.py)
kiln_python_test(architecture/includes.py NAME architecture/includes_self_test ARGS --self-test)
kiln_python_test(architecture/isa_symbols.py)
kiln_python_test(architecture/families.py)
kiln_python_test(architecture/families.py NAME architecture/families_self_test ARGS --self-test)
