/* life/early.rs: a library of the early test; see early.h. */
#include "early.h"
