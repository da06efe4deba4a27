//! Tables of runs -> fronts, hypervolume, intervals.
