# A tiny domain embedding with random weights: W of five conditions, 64 wide.
tower = dict(hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, patch_size=16, projection_dim=64)
domain_embedding = dict(
    type='DomainEmbedding',
    descriptions=dict(provider='hash', classes=['clear', 'fog', 'night', 'rain', 'snow'], dim=64, projected_dim=64),
    image_encoder=dict(model='tiny', config=tower, pretrained=None, trainable=True, image_size=64),
    temperature=0.07,
)
