// Written by tools/fit_gelu.py, which says what these numbers are.
#pragma once

namespace allmlp {

constexpr int gelu_float_degree = 12;
constexpr float gelu_float_cut = 5.0f;
constexpr float gelu_float[2][gelu_float_degree + 1] = {
    // erf
    {0.14136378f, -0.0702966524f, 0.051521421f, -0.0404329485f, 0.0314262277f, -0.0233367384f, 0.0164976675f,
     -0.0109732106f, 0.00616540152f, -0.00291569902f, 0.00200189351f, -0.00151414246f, 0.000492955596f},
    // tanh
    {0.141378508f, -0.0703659318f, 0.051657649f, -0.0405389854f, 0.031340696f, -0.0230316229f, 0.0160717891f,
     -0.0104361123f, 0.005713611f, -0.00306161168f, 0.00268412002f, -0.00203691568f, 0.00062480828f},
};

constexpr int gelu_bf16_degree = 6;
constexpr float gelu_bf16_cut = 4.0f;
constexpr float gelu_bf16[2][gelu_bf16_degree + 1] = {
    // erf
    {0.175970217f, -0.0844265985f, 0.0554101535f, -0.035462476f, 0.0240912404f, -0.016550738f, 0.00597183304f},
    // tanh
    {0.176029856f, -0.0845362816f, 0.0553077311f, -0.0349419538f, 0.0237630006f, -0.0168901419f, 0.0062763742f},
};

}  // namespace allmlp
