"""Models: the speaker graph and the fusion models, and around them what teaches and measures them.

What runs live:

    ar_iigcn      the fusion model, of layers, graph and batch; joint_fusion is the second one
    stream        a conversation that it follows, on graph_state
    checkpoint    a trained model on disk; checkpoints/ has those that ship

What trains and measures:

    registry      fusion models by name: ours, and those of peers/, which papers compare with
    objectives    contrastive losses; adversarial has the losses and networks of TGAN
    data/         data sets, each layout in a file; corpora finds them by name
    training/     recipe, epochs, records, checkpoints, scores
    live/         the live model's data and training
    perception/   how the encoders of faces, voices and words are taught
    bench/        plans of runs, what they cost, and the report
"""
