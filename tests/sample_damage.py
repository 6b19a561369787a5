"""What llama-perplexity printed of each row of the sample record, and of pruned rows' parts."""

from __future__ import annotations

from lwq.metrics.values import Damage, Estimate

ODD_NAME = "Q4_1|odd *name* <b>&`x`_ $1"

_KLD_LABELS = ("Maximum", "99.9%", "99.0%", "95.0%", "90.0%", "Median", "10.0%", "5.0%", "1.0%", "0.1%", "Minimum")
_KLD = (1.285339, 0.404327, 0.191058, 0.096654, 0.070069, 0.025314, 0.004884, 0.001337, 0.000158, 0.000021, 0.000003)
_DELTA_P_LABELS = (*_KLD_LABELS[:5], "75.0%", "Median", "25.0%", *_KLD_LABELS[6:])
_DELTA_P = (29.518, 23.212, 12.54, 6.032, 2.932, 0.387, -0.007, -0.897, -3.69, -6.572, -15.087, -37.799, -40.127)
_CHUNK_KLD = (0.03876, 0.03764, 0.03662, 0.03616, 0.0352, 0.03581, 0.03545, 0.0352)
_CHUNK_RATIO = (0.01787, 0.02547, 0.02772, 0.0281, 0.02926, 0.0349, 0.03479, 0.02734)

# PPL of the pruned bases, read back from their own stored log-probs; that of the original for all else
_PRUNED_BASES = {"Q4_K_M-pruned, quant part": 41.772629, "Q4_K_M-healed, quant part": 35.257208}

# PPL, ρPPL, ln ratio, KLD, mean Δp, RMS Δp, same top p; all but ρPPL with their errors
_MEASURED = {
    "F16": "24.498037 1.659006 .9998 .00189 .001355 -.000001 0 0 0 .00001 0 1 0",
    "Q8_0": "24.48119 1.666277 .9993 .006714 .002567 .00394 .000086 -.00094 .0003 .01349 .00049 .95196 .00474",
    "Q4_K_M": "25.129477 1.704591 .9957 .027339 .006266 .035198 .001052 -.00334 .00098 .04434 .0022 .87696 .00727",
    "Q4_K_M-no-imatrix": "25.785343 1.768309 .9932 .053103 .008025 .054149 .001434"
    " -.00461 .00121 .05484 .00283 .85637 .00777",
    "IQ4_XS": "27.181367 1.85295 .9855 .105829 .011578 .105129 .003471 -.01304 .00167 .07664 .00397 .79216 .00899",
    "Q4_K_M-by-hand": "25.101145 1.701729 .996 .026211 .00608 .031822 .000871"
    " -.00354 .00094 .04279 .00236 .87059 .00743",
    "Q4_K_M-lwq": "25.117204 1.703105 .9959 .026851 .006138 .032804 .000948 -.00341 .00096 .04317 .00221 .88113 .00716",
    "Q4_K_M-by-hand, stock values": "25.121407 1.70361 .9954 .02702 .006304 .035914 .001013"
    " -.00371 .00099 .04486 .00241 .86577 .0075",
    "Q4_K_M-pruned": "43.149998 2.935341 .9278 .567979 .025752 .483157 .011611"
    " -.06684 .00363 .17693 .0058 .57794 .01094",
    "Q4_K_M-pruned, prune part": "41.812207 2.84066 .9301 .536469 .025104 .452207 .011098"
    " -.06312 .00355 .17114 .00571 .59216 .01088",
    "Q4_K_M-pruned, quant part": "43.149998 2.935341 .9953 .032441 .006902 .037716 .001127"
    " -.00372 .00103 .04518 .00231 .86912 .00747",
    "Q4_K_M-healed": "36.604771 2.494117 .9491 .403438 .021166 .361905 .009217"
    " -.05207 .00322 .15286 .00523 .64363 .0106",
    "Q4_K_M-healed, prune part": "35.290115 2.40188 .9524 .366862 .020447 .327744 .008716"
    " -.04811 .00313 .14602 .00508 .65931 .01049",
    "Q4_K_M-healed, quant part": "36.604771 2.494117 .9948 .037508 .007018 .040218 .001204"
    " -.00401 .00108 .04703 .00244 .86324 .00761",
    ODD_NAME: "24.595792 1.669402 .9995 .005872 .002211 .002791 .000061 .00026 .00025 .01114 .00035 .95784 .00445",
}


def damage(name: str) -> Damage:
    """What llama-perplexity printed of that row; percentiles are those of Q4_K_M, scaled."""
    ppl, ppl_error, cor, ratio, ratio_error, kld, kld_error, mean, mean_error, rms, rms_error, top, top_error = map(
        float, _MEASURED[name].split()
    )
    base = _PRUNED_BASES.get(name, 24.451778)
    scale, scale_p = kld / 0.035198, rms / 0.04434
    return Damage(
        ppl=Estimate(value=ppl, stderr=ppl_error),
        ppl_base=Estimate(value=base, stderr=1.650996),
        cor_ln_ppl=cor,
        ln_ppl_ratio=Estimate(value=ratio, stderr=ratio_error),
        ppl_ratio=Estimate(value=round(ppl / base, 6), stderr=round(ratio_error * ppl / base, 6)),
        ppl_difference=Estimate(value=round(ppl - base, 6), stderr=round(ratio_error * ppl, 6)),
        kld=Estimate(value=kld, stderr=kld_error, unit="nats"),
        kld_percentiles=tuple(
            zip(_KLD_LABELS, sorted((round(value * scale, 6) for value in _KLD), reverse=True), strict=True)
        ),
        mean_delta_p=Estimate(value=mean, stderr=mean_error),
        delta_p_percentiles=tuple(
            (label, round(max(-0.99, min(0.99, value * scale_p / 100)), 5))
            for label, value in zip(_DELTA_P_LABELS, _DELTA_P, strict=True)
        ),
        rms_delta_p=Estimate(value=rms, stderr=rms_error),
        same_top_p=Estimate(value=top, stderr=top_error),
        chunk_kld=tuple(round(value * scale, 5) for value in _CHUNK_KLD),
        chunk_ln_ppl_ratio=tuple(round(r * ratio / 0.02734, 5) for r in _CHUNK_RATIO),
    )
