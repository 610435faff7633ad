"""Models: the speaker graph, the fusion models, their training and their evaluation.

What runs live:

    ar_iigcn      the fusion model, of layers, graph and batch
    stream        a conversation that it follows, on graph_state
    checkpoint    a trained model on disk; checkpoints/ has those that ship

What trains and measures: corpora finds data (datasets, meld, mosi, published, converted, raw_corpora, all by the rules
of dialogues), registry finds models (ours, the gru floor, and peers from the literature on context), runs and train
train them with objectives and adversarial, evaluate and metrics judge, bench_graph and bench_training time.
"""
